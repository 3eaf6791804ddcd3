-- Matches: how much of what servers and browsers report meets the other's report of the same thing.
--
-- Rule (CONTRACT, Browser and server event). A server event (source server) and a browser event (any other source) meet
-- when they have the same site, name and id (not empty) and their ts are at most 48 h apart, edges included, whatever
-- session, partition or order they came in. Read from `events`, so the server events that do not count are here. What is
-- counted are ids: one that was sent several times is one, and it met if any of its events here did. They have ts in
-- [since, until); what they meet may lie outside. Names: `event`, else Purchase and every name that a server sent the site
-- with an id in [since, until). Bots are left out without `bots`, as in traffic, by the event's own session; whom they met is not asked.
--
-- Parameters: event String ('': see above) · site String ('': all) · since_ms, until_ms Int64, ms since 1970 (0, year 2300) ·
-- by Identifier (event_name), a column of events or `day`, the event's own · by_day UInt8 · tz String (UTC), cuts days ·
-- bots UInt8 (0).
-- Columns: value String · server_events, ids that servers sent · server_matched, of these, met by a browser event ·
-- server_rate = matched / events (0 / 0 is 0) · browser_events, browser_matched, browser_rate: the same of browsers. By day in
-- its order, else the most ids first.
WITH
    172800000 AS window_ms,
    toInt64(1000000000000000) AS far_ms,
    in_range AS
    (
        SELECT
            site, event_name, event_id,
            source = 'server' AS is_server,
            toUnixTimestamp64Milli(ts) AS ms,
            toDate(ts, {tz:String}) AS day,
            toString({by:Identifier}) AS by_value,
            if(visitor_id = 0, is_bot != 0, cityHash64(site, visitor_id, session_id) IN (
                SELECT cityHash64(site, visitor_id, session_id) FROM bot_sessions
                WHERE {site:String} = '' OR site = {site:String})) AS of_bot
        FROM events
        WHERE event_id != ''
          AND ({site:String} = '' OR site = {site:String})
          AND ts >= fromUnixTimestamp64Milli({since_ms:Int64} - window_ms)
          AND ts <= fromUnixTimestamp64Milli(least({until_ms:Int64} + window_ms, 10413791999999))
          AND if({event:String} != '', event_name = {event:String}, event_name = 'Purchase' OR (site, event_name) IN (
                SELECT site, event_name FROM events
                WHERE source = 'server' AND event_id != ''
                  AND ts >= fromUnixTimestamp64Milli({since_ms:Int64}) AND ts < fromUnixTimestamp64Milli({until_ms:Int64})))
    ),
    -- The nearest of the other side, before and behind, by running extremes: n events of one id cost n log n.
    beside AS
    (
        SELECT
            *,
            max(if(is_server, ms, -far_ms)) OVER before AS server_before,
            min(if(is_server, ms, far_ms)) OVER behind AS server_behind,
            max(if(is_server, -far_ms, ms)) OVER before AS browser_before,
            min(if(is_server, far_ms, ms)) OVER behind AS browser_behind,
            if(is_server, least(ms - browser_before, browser_behind - ms), least(ms - server_before, server_behind - ms))
                <= window_ms AS met
        FROM in_range
        WINDOW
            before AS (PARTITION BY site, event_name, event_id ORDER BY ms ASC),
            behind AS (PARTITION BY site, event_name, event_id ORDER BY ms DESC)
    )
SELECT
    by_value AS value,
    uniqExactIf((site, event_name, event_id), is_server) AS server_events,
    uniqExactIf((site, event_name, event_id), is_server AND met) AS server_matched,
    if(server_events = 0, 0, server_matched / server_events) AS server_rate,
    uniqExactIf((site, event_name, event_id), NOT is_server) AS browser_events,
    uniqExactIf((site, event_name, event_id), NOT is_server AND met) AS browser_matched,
    if(browser_events = 0, 0, browser_matched / browser_events) AS browser_rate
FROM beside
WHERE ms >= {since_ms:Int64} AND ms < {until_ms:Int64} AND ({bots:UInt8} OR NOT of_bot)
GROUP BY by_value
ORDER BY if({by_day:UInt8}, value, ''), server_events + browser_events DESC, value
SETTINGS
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
