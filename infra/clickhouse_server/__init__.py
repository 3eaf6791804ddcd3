"""The embedded ClickHouse: chDB's engine on one data directory, behind the ClickHouse HTTP interface.

`server.main` is the process; `engine` alone touches chDB; `guard` and `access` keep clients away from files,
commands and networks. Imported without chDB: the error that names the missing extra comes when the server starts.
"""
