-- The counted events: what every report reads. One place for CONTRACT's "Browser and server event of the same site, name
-- and id within 48 h: both rows are kept; the browser's is the counted one, else the lowest (received_at, spool_id,
-- spool_seq)".
--
-- Read as: a server event (source 'server') with an id is not counted when another event of its site, name and id stands
-- within 48 h of it, by event time, edges included, and goes before it: any browser event (pixel, beacon, click, email), or
-- a server event of lower (received_at, spool_id, spool_seq). Browser events are always counted, also two of one id: what a
-- browser sends again is a client duplicate, the sessionizer's business. An event without id never merges.

-- Few granules hold server events, or none: then the view below costs nothing.
ALTER TABLE events ADD INDEX IF NOT EXISTS by_source source TYPE set(8) GRANULARITY 4;

-- The server events left out. The least place within 48 h of a row is found without comparing all pairs: time is cut in
-- slices of 48 h; a row's surroundings are its whole slice, the next one's beginning and the last one's end, which two
-- running minima give. So n events of one id cost n log n.
CREATE VIEW IF NOT EXISTS uncounted_events AS
WITH
    172800000 AS window_ms,
    server_keys AS (SELECT DISTINCT site, event_name, event_id FROM events WHERE source = 'server' AND event_id != ''),
    keyed AS
    (
        SELECT
            site, event_name, event_id, visitor_id, session_id, spool_id, spool_seq, log_partition, log_offset,
            toUInt8(source = 'server') AS is_server,
            (is_server, toUnixTimestamp64Milli(received_at), spool_id, spool_seq, log_partition, log_offset) AS place,
            arrayJoin(if(is_server, [-1, 0, 1], [0])) AS side,
            toUnixTimestamp64Milli(ts) + side * window_ms AS at_ms,
            intDiv(at_ms + window_ms, window_ms) AS slice,
            if(side = 0, place, (toUInt8(2), toInt64(0), toUInt64(0), toUInt64(0), toUInt32(0), toUInt64(0))) AS entry
        FROM events
        WHERE (site, event_name) IN (SELECT site, event_name FROM server_keys)
          AND (site, event_name, event_id) IN (SELECT site, event_name, event_id FROM server_keys)
    ),
    least AS
    (
        SELECT
            *,
            min(entry) OVER (PARTITION BY site, event_name, event_id, slice ORDER BY at_ms ASC) AS until_here,
            min(entry) OVER (PARTITION BY site, event_name, event_id, slice ORDER BY at_ms DESC) AS from_here
        FROM keyed
    )
SELECT site, visitor_id, session_id, spool_id, spool_seq, log_partition, log_offset
FROM least
WHERE is_server
GROUP BY site, visitor_id, session_id, spool_id, spool_seq, log_partition, log_offset, place
HAVING minIf(until_here, side >= 0) < place OR minIf(from_here, side <= 0) < place;

-- Every column of events; the rows that count.
CREATE VIEW IF NOT EXISTS counted_events AS
SELECT *
FROM events
WHERE (SELECT count() FROM events WHERE source = 'server' AND event_id != '') = 0
   OR source != 'server'
   OR (spool_id, spool_seq, log_partition, log_offset)
      NOT IN (SELECT spool_id, spool_seq, log_partition, log_offset FROM uncounted_events);

-- A session is a bot's if any of its events is.
CREATE VIEW IF NOT EXISTS bot_sessions AS
SELECT DISTINCT site, visitor_id, session_id
FROM counted_events
WHERE is_bot != 0 AND visitor_id != 0;

-- `sessions` of counted events alone: those that hold an uncounted event are made again from their counted ones, and those
-- without any are none. Where nothing is uncounted this is `sessions`.
CREATE VIEW IF NOT EXISTS counted_sessions AS
SELECT
    site, visitor_id, session_id, session_start, first_ts, last_ts, duration_s, events, is_bounce, is_bot, channel,
    utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id_type, country, device, browser, os
FROM sessions
WHERE (SELECT count() FROM events WHERE source = 'server' AND event_id != '') = 0
   OR (site, visitor_id, session_id) NOT IN (SELECT site, visitor_id, session_id FROM uncounted_events)
UNION ALL
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
