-- A session's first and last page as plain columns instead of aggregate states, and the view without a GROUP BY of its own:
-- the table adds up rows of one key when a block is inserted and when parts are merged (`optimize_on_insert`), so doing it
-- before, too, only cost.
--
-- The smallest place (time, log partition, offset) is the first one, and it is never shared. What was counted before says
-- only the time of its place; a session's earlier rows come from smaller offsets, so 0 is right there for both pages. For the
-- sake of these rows the former columns stay.
ALTER TABLE session_parts
    ADD COLUMN IF NOT EXISTS entry_page SimpleAggregateFunction(min, Tuple(
        ts DateTime64(3, 'UTC'), log_partition UInt32, log_offset UInt64,
        url_host String, url_path String, ref_host String))
        DEFAULT (first_ts, 0, 0, finalizeAggregation(entry).1, finalizeAggregation(entry).2, finalizeAggregation(entry).3),
    ADD COLUMN IF NOT EXISTS exit_page SimpleAggregateFunction(max, Tuple(
        ts DateTime64(3, 'UTC'), log_partition UInt32, log_offset UInt64, url_host String, url_path String))
        DEFAULT (last_ts, 0, 0, finalizeAggregation(exit).1, finalizeAggregation(exit).2);

-- As in 0006. (`exit_page.url_path` would be read as a column of its own, and FINAL then take any row's.)
CREATE OR REPLACE VIEW sessions AS
SELECT
    site, visitor_id, session_id, session_start, first_ts, last_ts,
    (toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts)) / 1000 AS duration_s,
    events, engagements, purchases,
    toUInt8(events - engagements = 1) AS is_bounce,
    is_bot, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, click_id_type,
    country, device, browser, os,
    tupleElement(entry_page, 'url_host') AS entry_host,
    tupleElement(entry_page, 'url_path') AS entry_path,
    tupleElement(entry_page, 'ref_host') AS entry_ref_host,
    tupleElement(exit_page, 'url_path') AS exit_path
FROM session_parts FINAL;

ALTER TABLE session_parts_mv MODIFY QUERY
SELECT
    site, visitor_id, session_id, session_start,
    ts AS first_ts,
    ts AS last_ts,
    toUInt64(1) AS events,
    toUInt64(event_name = 'Engagement') AS engagements,
    toUInt64(event_name = 'Purchase') AS purchases,
    is_bot, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, click_id_type,
    toString(country) AS country,
    toString(device) AS device,
    toString(browser) AS browser,
    toString(os) AS os,
    (ts, log_partition, log_offset, toString(url_host), url_path, toString(ref_host)) AS entry_page,
    (ts, log_partition, log_offset, toString(url_host), url_path) AS exit_page
FROM events
WHERE visitor_id != 0;
