-- Traffic: everything that was counted, with and without a visitor.
--
-- Rule (CONTRACT, No visitor). Counted events with ts in [since, until), those of visitor 0 included. Bots are left out
-- without `bots`, by session: an event is a bot's if its session is, and without a session if it is itself.
--
-- Parameters: site String ('': all) · since_ms, until_ms Int64, ms since 1970 (0, year 2300) · by Identifier (day), a column
-- of events or `day`, the event's · by_day UInt8 · tz String (UTC), cuts days · bots UInt8 (0) ·
-- counted_events Identifier, that view, or `events` where all of them count.
-- Columns: value String · events · pageviews (PageView) · visitors, distinct per site, visitor 0 not counted · sessions with
-- an event here (one that passes midnight is in both days) · no_visitor, events of visitor 0 · bot_events, events of bots,
-- which the columns before hold only with `bots` · bot_share = bot_events / all events, bots included. By day in its order,
-- else the most events first.
WITH seen AS
(
    SELECT
        site, visitor_id, session_id, event_name,
        toDate(ts, {tz:String}) AS day,
        toString({by:Identifier}) AS by_value,
        if(visitor_id = 0, is_bot != 0, cityHash64(site, visitor_id, session_id) IN (
            SELECT cityHash64(site, visitor_id, session_id) FROM bot_sessions
            WHERE {site:String} = '' OR site = {site:String})) AS of_bot,
        toUInt8({bots:UInt8} OR NOT of_bot) AS shown
    FROM {counted_events:Identifier}
    WHERE ({site:String} = '' OR site = {site:String})
      AND ts >= fromUnixTimestamp64Milli({since_ms:Int64})
      AND ts < fromUnixTimestamp64Milli({until_ms:Int64})
)
SELECT
    by_value AS value,
    countIf(shown) AS events,
    countIf(shown AND event_name = 'PageView') AS pageviews,
    uniqExactIf((site, visitor_id), shown AND visitor_id != 0) AS visitors,
    uniqExactIf((site, visitor_id, session_id), shown AND visitor_id != 0) AS sessions,
    countIf(shown AND visitor_id = 0) AS no_visitor,
    countIf(of_bot) AS bot_events,
    bot_events / count() AS bot_share
FROM seen
GROUP BY by_value
ORDER BY if({by_day:UInt8}, value, ''), events DESC, value
SETTINGS
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
