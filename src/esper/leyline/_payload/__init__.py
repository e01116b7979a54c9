"""How payloads and events are made, read and written: compiled from their fields. Nothing here is for users.

From the bottom up: `base_values` and `frozen` (what a payload keeps), `wording` (what errors say), `types` (the table:
what each type of field means), `source` (generated code), `construct`, `reading`, `writing`, `codec` (all three for one
payload), `envelope` (the same for the event), `field_docs`.
"""
