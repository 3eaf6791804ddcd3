"""The engine's own configuration: what its one user may do, what no client may set, and how much memory it may take.

Promise: an allow-list. Databases, tables, views and temporary tables may be made, changed, read and dropped; system
tables may be read; nothing else is granted: no source (FILE, URL, S3, REMOTE, …), no engine outside
`guard.TABLE_ENGINES`, no dictionary (chDB carries out their commands), no function, user or named collection, no
SYSTEM or BACKUP statement.
Source: https://clickhouse.com/docs/sql-reference/statements/grant and what the tests attack.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from infra.clickhouse_server.guard import TABLE_ENGINES

GRANTS = (
    "GRANT SELECT, INSERT, ALTER, DROP, TRUNCATE, OPTIMIZE, SHOW, CHECK, UNDROP TABLE, KILL QUERY, dictGet ON *.*",
    "GRANT CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE TEMPORARY TABLE ON *.*",
    # tables that show other ways in: credentials, and disks that a query would connect to
    "REVOKE SHOW USERS, SHOW NAMED COLLECTIONS ON *.*",
    *(f"GRANT TABLE ENGINE ON {engine}" for engine in TABLE_ENGINES),
)

# Settings that read or write a file, connect, run SQL that stands in their value, or change the parser.
FIXED_SETTINGS = (
    *("dialect", "polyglot_dialect", "allow_experimental_kusto_dialect", "allow_experimental_prql_dialect"),
    *("allow_experimental_polyglot_dialect", "enable_trino_dialect", "enable_json_ast_dialect", "promql_database"),
    *("format_schema", "format_schema_source", "format_schema_message_name", "output_format_schema"),
    *(
        "format_template_resultset",
        "format_template_row",
        "format_template_resultset_format",
        "format_template_row_format",
    ),
    *("input_format_record_errors_file_path", "format_avro_schema_registry_url", "rename_files_after_processing"),
    *("additional_table_filters", "additional_result_filter", "parallel_replicas_custom_key", "url_base", "s3_base"),
    *("ai_function_text_default_credentials", "ai_function_embedding_default_credentials"),
    *("allow_introspection_functions", "allow_python_table_function", "allow_fuzz_query_functions"),
    *("filesystem_cache_name", "into_outfile_create_parent_directories", "allow_ddl"),
)

# The server's own defaults. Inserts are synchronous: an answered insert is in the table.
PROFILE = {
    "async_insert": "0",
    "allow_introspection_functions": "0",
    "allow_python_table_function": "0",
    "max_execution_time": "0",
}

# A small box runs collectors and workers beside the engine: it may take 60 % of the memory the machine (or cgroup) has.
MEMORY_RATIO_MAX = 0.6
MARK_CACHE_BYTES = 256 * 1024 * 1024


def write_configuration(directory: Path) -> Path:
    """Write the engine's configuration into `directory` and return the path of its main file.

    Both files are replaced at every start, atomically, so that a half-written one is never read.
    """
    directory.mkdir(parents=True, exist_ok=True)
    users = directory / "users.xml"
    config = directory / "config.xml"
    _replace(users, users_xml())
    _replace(config, config_xml(users))
    return config


def config_xml(users: Path) -> str:
    """Return the server configuration: where the users are, caps on memory and caches."""
    return (
        "<clickhouse>\n"
        f"  <users_config>{escape(str(users.absolute()))}</users_config>\n"
        f"  <max_server_memory_usage_to_ram_ratio>{MEMORY_RATIO_MAX}</max_server_memory_usage_to_ram_ratio>\n"
        f"  <mark_cache_size>{MARK_CACHE_BYTES}</mark_cache_size>\n"
        "</clickhouse>\n"
    )


def users_xml() -> str:
    """Return the one user, its profile with fixed settings, and its grants."""
    profile = "".join(f"<{name}>{value}</{name}>" for name, value in PROFILE.items())
    fixed = "".join(f"<{name}><const/></{name}>" for name in FIXED_SETTINGS)
    grants = "\n".join(f"      <query>{escape(grant)}</query>" for grant in GRANTS)
    return (
        "<clickhouse>\n"
        f"  <profiles><default>{profile}<constraints>{fixed}</constraints></default></profiles>\n"
        "  <quotas><default/></quotas>\n"
        "  <users><default><password/><networks><ip>::/0</ip></networks><profile>default</profile>\n"
        f"    <quota>default</quota><grants>\n{grants}\n    </grants></default></users>\n"
        "</clickhouse>\n"
    )


def _replace(path: Path, text: str) -> None:
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.replace(path)
