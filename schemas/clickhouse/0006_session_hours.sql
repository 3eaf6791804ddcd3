-- Sessions counted beforehand: by site, the hour that they were opened in, the quarter of an hour of their first event,
-- channel, and whether they are a bot's.
--
-- Exact whatever is inserted when, because nothing is ever added up here. A *unit* is the sessions of a site that were
-- opened in the same hour; `session_start` is never rewritten, so a session stays in its unit. A unit is counted whole,
-- from `session_parts`, under a `version`: which sessions it held, with how many events each. Every event raises one of these
-- numbers, so when another insert, a repeated one that heals the first, a bot's mark or a row's retention changes the unit,
-- it has another version; what was counted under the former is no longer read, and the unit is counted from its sessions,
-- until it is counted anew. A count cut in half has fewer rows than it says, and is not read either.

-- One row a session, whatever is merged yet: as before, but merged while it is read, in the order of the key, and so
-- without a hash table of all sessions.
CREATE OR REPLACE VIEW sessions AS
SELECT
    site, visitor_id, session_id, session_start, first_ts, last_ts,
    (toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts)) / 1000 AS duration_s,
    events, engagements, purchases,
    toUInt8(events - engagements = 1) AS is_bounce,
    is_bot, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, click_id_type,
    country, device, browser, os,
    (finalizeAggregation(entry) AS entry_page).1 AS entry_host,
    entry_page.2 AS entry_path,
    entry_page.3 AS entry_ref_host,
    finalizeAggregation(exit).2 AS exit_path
FROM session_parts FINAL;

-- A sum over events, so merges leave it as it is, and each part keeps its own with its rows.
ALTER TABLE session_parts MODIFY SETTING
    deduplicate_merge_projection_mode = 'rebuild', lightweight_mutation_projection_mode = 'rebuild';
ALTER TABLE session_parts ADD PROJECTION IF NOT EXISTS units
(
    SELECT site, toStartOfHour(session_start), sum(events * cityHash64(session_id))
    GROUP BY site, toStartOfHour(session_start)
);
ALTER TABLE session_parts MATERIALIZE PROJECTION units;

CREATE TABLE IF NOT EXISTS session_hours
(
    site             LowCardinality(String),
    start_hour       DateTime('UTC') COMMENT 'of session_start; with the site the unit',
    version          UInt64 COMMENT 'of the unit that was counted',
    unit_rows        UInt32 COMMENT 'as many rows hold the whole unit',
    quarter          DateTime('UTC') COMMENT 'quarter of an hour of the first event',
    channel          LowCardinality(String),
    is_bot           UInt8,
    sessions         UInt64,
    bounces          UInt64,
    events           UInt64,
    duration_ms      UInt64 COMMENT 'sum',
    counted_at       DateTime('UTC') DEFAULT now()
)
ENGINE = ReplacingMergeTree(counted_at)
PARTITION BY toYYYYMM(start_hour)
ORDER BY (site, start_hour, quarter, channel, is_bot)
SETTINGS non_replicated_deduplication_window = 100000;

-- All units, and whether session_hours holds them as they are now.
CREATE VIEW IF NOT EXISTS session_units AS
SELECT
    site, toStartOfHour(session_start) AS start_hour,
    sum(events * cityHash64(session_id)) AS version,
    toUInt8((site, start_hour, version) IN (
        SELECT site, start_hour, version FROM session_hours FINAL
        GROUP BY site, start_hour, version HAVING count() = any(unit_rows))) AS is_counted
FROM session_parts
GROUP BY site, start_hour;

-- Counts the units that are not counted; the hour that now is changes too often. (Compared as what `session_start` is: with
-- a DateTime the planner throws and catches TYPE_MISMATCH, which may hide an insert's own, see infra/clickhouse_server.)
CREATE MATERIALIZED VIEW IF NOT EXISTS session_hours_mv REFRESH EVERY 10 MINUTE APPEND TO session_hours AS
SELECT
    site, start_hour,
    sum(unit_hash) OVER (PARTITION BY site, start_hour) AS version,
    toUInt32(count() OVER (PARTITION BY site, start_hour)) AS unit_rows,
    quarter, channel, is_bot, sessions, bounces, events, duration_ms
FROM
(
    SELECT
        site, toStartOfHour(session_start) AS start_hour, toStartOfFifteenMinutes(first_ts) AS quarter, channel, is_bot,
        sum(s.events * cityHash64(session_id)) AS unit_hash,
        count() AS sessions,
        sum(is_bounce) AS bounces,
        sum(s.events) AS events,
        sum(toUInt64(toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts))) AS duration_ms
    FROM sessions AS s
    WHERE toStartOfHour(session_start) IN (SELECT start_hour FROM session_units WHERE NOT is_counted)
      AND (site, toStartOfHour(session_start)) IN (SELECT site, start_hour FROM session_units WHERE NOT is_counted)
      AND session_start < toDateTime64(toStartOfHour(now()), 3)
    GROUP BY site, start_hour, quarter, channel, is_bot
);

-- As in 0002, the sessions that hold an uncounted event as a view of its own.
CREATE VIEW IF NOT EXISTS recounted_sessions AS
SELECT
    site, visitor_id, session_id, session_start,
    min(e.ts) AS first_ts,
    max(e.ts) AS last_ts,
    (toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts)) / 1000 AS duration_s,
    count() AS events,
    toUInt8(countIf(e.event_name != 'Engagement') = 1) AS is_bounce,
    max(e.is_bot) AS is_bot,
    any(e.channel) AS channel,
    any(e.utm_source) AS utm_source,
    any(e.utm_medium) AS utm_medium,
    any(e.utm_campaign) AS utm_campaign,
    any(e.utm_term) AS utm_term,
    any(e.utm_content) AS utm_content,
    any(e.click_id_type) AS click_id_type,
    max(toString(e.country)) AS country,
    max(toString(e.device)) AS device,
    max(toString(e.browser)) AS browser,
    max(toString(e.os)) AS os
FROM counted_events AS e
WHERE (site, visitor_id, session_id) IN (SELECT site, visitor_id, session_id FROM uncounted_events WHERE visitor_id != 0)
GROUP BY site, visitor_id, session_id, session_start;

CREATE OR REPLACE VIEW counted_sessions AS
SELECT
    site, visitor_id, session_id, session_start, first_ts, last_ts, duration_s, events, is_bounce, is_bot, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_type, country, device, browser, os
FROM sessions
WHERE (SELECT count() FROM events WHERE source = 'server' AND event_id != '') = 0
   OR (site, visitor_id, session_id) NOT IN (SELECT site, visitor_id, session_id FROM uncounted_events)
UNION ALL
SELECT * FROM recounted_sessions;
