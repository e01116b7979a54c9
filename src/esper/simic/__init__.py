"""Training: environment, reward, counterfactuals, PPO and its diagnostics."""
