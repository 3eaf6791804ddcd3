-- Sessions: visits, visitors, bounces and durations.
--
-- Rule (CONTRACT, Session). Sessions of counted events; a session falls in [since, until) by its first event's time, and
-- counts with all of its events then. Duration is its last event's time minus its first's. A bounce has one event,
-- Engagement not counted. Bots' sessions are left out without `bots`; visitor 0 has no session.
--
-- Parameters: site String ('': all) · since_ms, until_ms Int64, ms since 1970 (0, year 2300) · by Identifier (channel), a
-- column of counted_sessions or `day`, the day of the first event · by_day UInt8 (0) · tz String (UTC), cuts days · bots UInt8 (0) ·
-- counted_sessions Identifier, that view, or `sessions` where all of them count.
-- Columns: value String · sessions UInt64 · visitors UInt64, distinct per site · bounces UInt64 · events UInt64 ·
-- duration_s_avg Float64, seconds. By day in its order, else the most sessions first.
SELECT
    toString({by:Identifier}) AS value,
    count() AS sessions,
    uniqExact(site, visitor_id) AS visitors,
    sum(is_bounce) AS bounces,
    sum(s.events) AS events,
    sum(toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(s.first_ts)) / 1000 / sessions AS duration_s_avg
FROM (SELECT *, toDate(first_ts, {tz:String}) AS day FROM {counted_sessions:Identifier}) AS s
WHERE ({site:String} = '' OR site = {site:String})
  -- Only to skip parts of the sort key: a session's events lie within 24 h of its start.
  AND session_start >= fromUnixTimestamp64Milli({since_ms:Int64} - 172800000)
  AND first_ts >= fromUnixTimestamp64Milli({since_ms:Int64})
  AND first_ts < fromUnixTimestamp64Milli({until_ms:Int64})
  AND ({bots:UInt8} OR is_bot = 0)
GROUP BY value
ORDER BY if({by_day:UInt8}, value, ''), sessions DESC, value
SETTINGS
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
