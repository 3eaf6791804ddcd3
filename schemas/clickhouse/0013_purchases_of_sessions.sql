-- A session's purchases as `events` has them, so that attribution need not look for them in every granule there. A set: what is
-- repeated adds nothing, so a session's rows may be inserted again (healing), and so may what is below.
ALTER TABLE session_parts
    ADD COLUMN IF NOT EXISTS conversions SimpleAggregateFunction(groupUniqArrayArray, Array(Tuple(
        ts DateTime64(3, 'UTC'), log_partition UInt32, log_offset UInt64,
        order_id String, currency String, value Decimal(18, 4))));

-- As in 0009, and the purchase.
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
    (ts, log_partition, log_offset, toString(url_host), url_path) AS exit_page,
    arrayFilter(x -> event_name = 'Purchase', [(ts, log_partition, log_offset, order_id, toString(currency), value)]) AS conversions
FROM events
WHERE visitor_id != 0;
RENAME TABLE IF EXISTS session_parts_mv TO session_parts_mv_read_anew;
RENAME TABLE IF EXISTS session_parts_mv_read_anew TO session_parts_mv;

-- What was inserted before: rows that add nothing else to their sessions.
INSERT INTO session_parts
(
    site, visitor_id, session_id, session_start, first_ts, last_ts, is_bot, channel, utm_source, utm_medium, utm_campaign,
    utm_term, utm_content, click_id, click_id_type, country, device, browser, os, entry_page, exit_page, conversions
)
SELECT
    site, visitor_id, session_id, session_start,
    ts AS first_ts,
    ts AS last_ts,
    is_bot, channel, utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, click_id_type,
    toString(country) AS country,
    toString(device) AS device,
    toString(browser) AS browser,
    toString(os) AS os,
    (ts, log_partition, log_offset, toString(url_host), url_path, toString(ref_host)) AS entry_page,
    (ts, log_partition, log_offset, toString(url_host), url_path) AS exit_page,
    [(ts, log_partition, log_offset, order_id, toString(currency), value)] AS conversions
FROM events
WHERE visitor_id != 0 AND event_name = 'Purchase'
SETTINGS insert_deduplicate = 0;

-- All purchases of visitors, for who takes each (log_partition, log_offset) once: it may be listed more often. From the
-- sessions' rows; and from `events` of visitors who have a session that counts otherwise than it lists, as one may whose insert
-- was under way while its view changed, or was cut by a kill.
CREATE OR REPLACE VIEW listed_purchases AS
SELECT
    'Purchase' AS event_name, site, visitor_id, session_id,
    c.ts AS ts, c.log_partition AS log_partition, c.log_offset AS log_offset,
    c.order_id AS order_id, c.currency AS currency, c.value AS value
FROM (SELECT site, visitor_id, session_id, conversions FROM session_parts WHERE notEmpty(conversions))
ARRAY JOIN conversions AS c
UNION ALL
SELECT
    'Purchase' AS event_name, site, visitor_id, session_id, ts, log_partition, log_offset,
    order_id, toString(currency) AS currency, value
FROM events
WHERE event_name = 'Purchase' AND visitor_id IN (
    SELECT visitor_id
    FROM session_parts
    WHERE (purchases != 0 OR notEmpty(conversions))
      AND session_id IN (SELECT session_id FROM session_parts WHERE purchases != length(conversions))
    GROUP BY visitor_id, session_id
    HAVING sum(purchases) != length(groupUniqArrayArray(conversions.log_offset)));
