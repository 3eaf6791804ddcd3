-- Channels: visits of each channel, day by day, mostly from what was counted beforehand.
--
-- Rule (CONTRACT, Session): as sessions.sql, cut by day and channel. Distinct visitors cannot be summed, so they are not here.
--
-- Parameters: site String ('': all) · since_ms, until_ms Int64, ms since 1970 (0, year 2300) · tz String (UTC), cuts days ·
-- bots UInt8 (0).
-- Columns: day Date, of the first event · value String, the channel · sessions UInt64 · bounces UInt64 · events UInt64 ·
-- duration_s_avg Float64, seconds. By day, then the most sessions first, then by name.
--
-- How. Units (0006_session_hours.sql) that are counted are read from session_hours, quarters of an hour that lie in the range
-- whole; the other units, and at the range's ends the rest, from the sessions themselves. Which units are counted is asked
-- once, so that none that changes meanwhile is missed or doubled. Sessions with an uncounted event are then taken out, and
-- put in as their counted events make them. A zone's offset is whole quarters of an hour from 1972 on.
WITH
    (
        SELECT (
            groupArrayIf(cityHash64(site, start_hour), is_counted),
            groupArrayIf(cityHash64(site, start_hour, version), is_counted),
            groupUniqArrayIf(start_hour, NOT is_counted))
        FROM session_units
        WHERE {site:String} = '' OR site = {site:String}
    ) AS units,
    900000 AS quarter_ms,
    -- Hours that a session may have been opened in which has its first event in a quarter that the range cuts.
    arrayFlatten(arrayMap(
        ms -> arrayMap(h -> toDateTime((intDiv(ms, 3600000) + h) * 3600, 'UTC'), range(26)),
        arrayFilter(ms -> ms % quarter_ms != 0 AND ms < 4294000000000, [{since_ms:Int64}, {until_ms:Int64}]))) AS cut_hours,
    counted AS
    (
        SELECT
            quarter, channel,
            toInt64(sessions) AS n, toInt64(bounces) AS n_bounces, toInt64(events) AS n_events, toInt64(duration_ms) AS ms
        FROM session_hours FINAL
        WHERE cityHash64(site, start_hour, version) IN (SELECT arrayJoin(units.2))
          AND toInt64(toUnixTimestamp(quarter)) * 1000 >= {since_ms:Int64}
          AND toInt64(toUnixTimestamp(quarter)) * 1000 + quarter_ms <= {until_ms:Int64}
          AND ({bots:UInt8} OR is_bot = 0)
    ),
    of_sessions AS
    (
        SELECT 1 AS sign, site, session_start, first_ts, last_ts, channel, is_bounce, is_bot, events
        FROM sessions
        WHERE toStartOfHour(session_start) IN (SELECT arrayJoin(arrayConcat(units.3, cut_hours)))
          AND (cityHash64(site, toStartOfHour(session_start)) NOT IN (SELECT arrayJoin(units.1))
               OR toStartOfFifteenMinutes(first_ts) < fromUnixTimestamp64Milli({since_ms:Int64})
               OR toUnixTimestamp64Milli(first_ts) - toUnixTimestamp64Milli(first_ts) % quarter_ms + quarter_ms > {until_ms:Int64})
        --[ server events
        UNION ALL
        SELECT -1 AS sign, site, session_start, first_ts, last_ts, channel, is_bounce, is_bot, events
        FROM sessions
        WHERE (site, visitor_id, session_id) IN (SELECT site, visitor_id, session_id FROM uncounted_events WHERE visitor_id != 0)
        UNION ALL
        SELECT 1 AS sign, site, session_start, first_ts, last_ts, channel, is_bounce, is_bot, events
        FROM recounted_sessions
        --]
    ),
    all_rows AS
    (
        SELECT * FROM counted
        UNION ALL
        SELECT
            toStartOfFifteenMinutes(first_ts) AS quarter, channel,
            toInt64(sign) AS n, toInt64(sign * is_bounce) AS n_bounces, toInt64(sign * s.events) AS n_events,
            toInt64(sign * (toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts))) AS ms
        FROM of_sessions AS s
        WHERE ({site:String} = '' OR site = {site:String})
          AND first_ts >= fromUnixTimestamp64Milli({since_ms:Int64})
          AND first_ts < fromUnixTimestamp64Milli({until_ms:Int64})
          AND ({bots:UInt8} OR is_bot = 0)
    )
SELECT
    toDate(quarter, {tz:String}) AS day,
    toString(channel) AS value,
    sum(n) AS sessions,
    sum(n_bounces) AS bounces,
    sum(n_events) AS events,
    sum(ms) / 1000 / sessions AS duration_s_avg
FROM all_rows
GROUP BY day, value
HAVING sessions != 0
ORDER BY day, sessions DESC, value
SETTINGS
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
