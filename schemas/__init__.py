"""What both wings agree on: the hit, its closed reasons and names, the settings, and the SQL. Imports nothing of ours."""
