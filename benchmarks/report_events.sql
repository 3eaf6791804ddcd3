-- Events of a few sites' visitors, as the pipeline would have loaded them; benchmarks/report_events.py runs it.
--
-- Everything follows from hashes of numbers, so the same rows come each time. Visitors: how often one comes again falls
-- with a power of the number (Pareto, exponent 1.4). Ids of visitors, sessions and events are random 64-bit numbers, a
-- visitor's log partition is the forwarder's crc32 of its id. A session is a bounce, or looks at products (few of them
-- are looked at often) and leaves the funnel somewhere; its events carry its channel, campaign and opener's time.
-- Every fiftieth visitor is a bot, every fortieth visit was denied (visitor 0). Offsets count a partition's events in the
-- order in which they came; a batch holds what came within a second.
--
-- First all events are made as narrow rows in `made`, in slices of time; then each slice is numbered and written out wide.
-- Windows are cut by log partition, and inserts have several threads, so that all cores work.
--
-- Parameters: visitors UInt64 · slices UInt32 · span_s UInt32 · start_ms Int64 · slice UInt16 · offsets Array(UInt64), the next
-- offset of each log partition.

CREATE TABLE IF NOT EXISTS made
(
    slice UInt16, log_partition UInt8, received_at DateTime64(3, 'UTC'), ts DateTime64(3, 'UTC'), session_start DateTime64(3, 'UTC'),
    visitor UInt32, session UInt64, denied UInt8, place UInt16, page UInt16, name Enum8('PageView' = 1, 'ViewContent' = 2,
    'Engagement' = 3, 'AddToCart' = 4, 'InitiateCheckout' = 5, 'AddPaymentInfo' = 6, 'Purchase' = 7)
)
ENGINE = MergeTree PARTITION BY slice ORDER BY tuple();

INSERT INTO made
WITH
    visits AS
    (
        SELECT
            number AS visitor,
            cityHash64(number, 'visitor') AS dice,
            arrayJoin(range(toUInt32(least(400, pow((dice % 1000000 + 1) / 1000000, -0.7))))) AS visit,
            cityHash64(number, visit) AS session,
            cityHash64(session, 'when') AS moment,
            -- Within a day most come in its middle.
            intDiv({span_s:UInt32}, 86400) * 1. AS days,
            toInt64((intDiv(moment, 1000000) % toUInt64(days)) * 86400000
                + (moment % 1000 + intDiv(moment, 1000) % 1000 + (moment % 1000000) / 1000000) / 2000 * 86400000) AS after_ms,
            cityHash64(session, 'kind') AS kind,
            kind % 100 < 38 AS bounces,
            toUInt8(least(25, pow((intDiv(kind, 100) % 10000 + 1) / 10000, -0.6))) AS pages,
            intDiv(kind, 10000000) % 1000 AS depth,
            multiIf(
                bounces, if(intDiv(kind, 1000000) % 10 < 3, [1, 3], [1]),
                arrayConcat(
                    arrayFlatten(arrayMap(
                        page -> multiIf(
                            cityHash64(session, page) % 100 < 35, [1],
                            cityHash64(session, page) % 100 < 75, [1, 2],
                            [1, 2, 3]),
                        range(1, pages + 2))),
                    multiIf(depth < 45, [4, 1, 5, 6, 1, 7], depth < 65, [4, 1, 5, 6], depth < 100, [4, 1, 5],
                            depth < 220, [4], []))) AS names,
            arrayCumSum(arrayMap(
                (name, place) -> toInt64(multiIf(
                    place = 1, 0,
                    name IN (2, 7), 10 + cityHash64(session, place, 'soon') % 400,
                    2000 + toInt64(-25000 * log((cityHash64(session, place, 'gap') % 1000000 + 1) / 1000001)))),
                names, arrayEnumerate(names))) AS gaps
        FROM numbers_mt({visitors:UInt64})
    )
SELECT
    toUInt16(after_ms * {slices:UInt32} / ({span_s:UInt32} * 1000.)) AS slice,
    CRC32(lower(leftPad(hex(cityHash64(visitor, 'id')), 16, '0'))) % 12 AS log_partition,
    -- By the rule of ts a browser's event is as late as it waited in the page; a few waited for a network.
    ts + toIntervalMillisecond(multiIf(
        late % 1000 < 900, late % 2,
        late % 1000 < 998, intDiv(late, 1000) % 1500,
        intDiv(late, 1000) % 20000000)) AS received_at,
    fromUnixTimestamp64Milli({start_ms:Int64} + after_ms + gap, 'UTC') AS ts,
    fromUnixTimestamp64Milli({start_ms:Int64} + after_ms, 'UTC') AS session_start,
    visitor,
    session,
    cityHash64(session, 'denied') % 40 = 0 AS denied,
    place,
    page,
    name
FROM (SELECT *, name, gap, place, page, cityHash64(session, place, 'late') AS late FROM visits
      ARRAY JOIN names AS name, gaps AS gap, arrayEnumerate(names) AS place, arrayCumSum(arrayMap(n -> n = 1, names)) AS page)
SETTINGS max_partitions_per_insert_block = 0, max_insert_threads = 2, min_insert_block_size_rows = 4000000;

INSERT INTO events
    (site, event_name, event_id, user_id, ts, ts_source, received_at, source, visitor_id, session_id, session_start, channel,
     utm_source, utm_medium, utm_campaign, utm_term, utm_content, click_id, click_id_type, ref_host, url_host, url_path,
     url_query, title, value, currency, order_id, items, props, ab, consent, country, region, city, os, os_version,
     browser, browser_version, device, is_bot, bot_reason, lang, screen_w, screen_h, ip, spool_id, spool_seq,
     log_partition, log_offset, batch_first, batch_last)
WITH
    numbered AS
    (
        SELECT
            *,
            {offsets:Array(UInt64)}[log_partition + 1]
                + row_number() OVER (PARTITION BY log_partition ORDER BY received_at, session, place) - 1 AS log_offset,
            toUnixTimestamp(received_at) AS second
        FROM made
        WHERE slice = {slice:UInt16}
    ),
    ordered AS
    (
        SELECT
            *,
            min(log_offset) OVER (PARTITION BY log_partition, second) AS batch_first,
            max(log_offset) OVER (PARTITION BY log_partition, second) AS batch_last
        FROM numbered
    ),
    dice AS
    (
        SELECT
            *,
            cityHash64(visitor, 'who') AS who,
            cityHash64(session, 'from') AS source_dice,
            cityHash64(session, page, 'what') AS what,
            -- The cumulative weights of ten sources.
            1 + arrayFirstIndex(w -> source_dice % 100 < w, [24, 48, 60, 66, 72, 82, 88, 93, 97, 100]) - 1 AS origin,
            who % 50 = 0 AS bot,
            1 + arrayFirstIndex(w -> intDiv(who, 100) % 100 < w, [28, 36, 43, 67, 90, 94, 100]) - 1 AS agent,
            1 + arrayFirstIndex(w -> intDiv(who, 10000) % 100 < w, [40, 50, 62, 70, 100]) - 1 AS locale,
            toUInt32(least(4999, 4 * pow((what % 1000000 + 1) / 1000000, -0.9) - 4)) AS product,
            multiIf(
                name = 'Purchase', 4, name IN ('InitiateCheckout', 'AddPaymentInfo'), 3, name IN ('ViewContent', 'AddToCart'), 1,
                cityHash64(session, page) % 100 >= 35, 1, intDiv(what, 100000000) % 2 = 0, 0, 2) AS page_kind,
            ['Tent', 'Boots', 'Jacket', 'Backpack', 'Stove', 'Lamp'][product % 6 + 1] AS category,
            concat(category, ' ', ['Fjell', 'Sylt', 'Tarp', 'Trail', 'Winter'][intDiv(product, 6) % 5 + 1], ' ', toString(product)) AS product_name,
            toDecimal64((795 + cityHash64(product) % 40000) / 100, 4) AS price,
            multiIf(origin IN (4, 5), 'gclid', origin = 6, 'fbclid', '') AS click
        FROM ordered
    )
SELECT
    ['shop', 'shop', 'shop', 'shop', 'shop', 'shop', 'shop', 'blog', 'blog', 'news'][intDiv(who, 1000000) % 10 + 1],
    toString(name),
    lower(leftPad(hex(cityHash64(session, place, 'event id')), 16, '0')),
    if(intDiv(who, 10000000) % 10 = 0, concat('u', toString(who % 1000000)), ''),
    ts, 'shifted', received_at, 'beacon',
    if(denied, 0, cityHash64(visitor, 'id')),
    if(denied, 0, cityHash64(session, 'id')),
    if(denied, fromUnixTimestamp64Milli(0, 'UTC'), session_start),
    ['Direct', 'Organic Search', 'Organic Social', 'Paid Search', 'Paid Shopping', 'Paid Social', 'Email', 'Referral',
     'Display', 'Affiliates'][origin],
    ['', '', '', 'google', 'google', 'facebook', 'newsletter', '', 'criteo', 'deals'][origin] AS source_name,
    ['', '', '', 'cpc', 'cpc', 'paid_social', 'email', '', 'display', 'affiliate'][origin] AS medium,
    if(source_name = '', '', concat(medium, '_', toString(least(39, toUInt32(pow((intDiv(source_dice, 100) % 10000 + 1) / 10000, -0.9)))))) AS campaign,
    if(origin = 4, ['tent', 'rain jacket', 'boots 42', 'backpack'][intDiv(source_dice, 1000000) % 4 + 1], '') AS term,
    if(origin = 6, concat('video_', toString(intDiv(source_dice, 1000000) % 9)), '') AS content,
    if(click = '' OR denied, '', lower(substring(hex(MD5(toString(session))), 1, 20))) AS click_value,
    click,
    if(place > 1, '', ['', 'www.google.com', 'www.facebook.com', 'www.google.de', 'www.google.com', 'l.facebook.com', '',
       'trails.example.org', '', 'deals.example.net'][origin]),
    if(page_kind IN (3, 4), 'checkout.example.com', 'www.example.com'),
    multiIf(page_kind = 0, '/', page_kind = 1, concat('/p/', lower(substring(category, 1, 3)), '-', toString(product)),
            page_kind = 2, concat('/c/', lower(category)), page_kind = 3, '/cart', '/thank-you'),
    if(place > 1 OR denied OR source_name = '', '', concat('utm_source=', source_name, '&utm_medium=', medium, '&utm_campaign=', campaign,
        if(term = '', '', concat('&utm_term=', encodeURLComponent(term))), if(content = '', '', concat('&utm_content=', content)),
        if(click = '', '', concat('&', click, '=', click_value)))),
    multiIf(page_kind = 0, 'Outdoor shop', page_kind = 1, concat(product_name, ' | Outdoor shop'), page_kind = 2, concat(category, 's | Outdoor shop'),
            page_kind = 3, 'Your cart | Outdoor shop', 'Thank you | Outdoor shop'),
    if(name IN ('PageView', 'Engagement'), toDecimal64(0, 4), price),
    if(name IN ('PageView', 'Engagement'), '', if(locale = 5, 'USD', 'EUR')),
    if(name = 'Purchase', concat('A', leftPad(toString(session % 1000000000), 9, '0')), ''),
    if(name IN ('PageView', 'Engagement'), [], [(concat(upper(substring(category, 1, 3)), '-', toString(product)), product_name, lower(category), price,
        toUInt32(1 + what % 10 = 0))]),
    multiIf(
        name = 'Engagement', map('seconds', toString(5 + intDiv(what, 1000) % 86), 'scroll', concat(toString(10 + intDiv(what, 100000) % 91), '%')),
        name = 'AddPaymentInfo', map('method', ['card', 'paypal', 'invoice'][what % 3 + 1]),
        map()),
    if(intDiv(who, 100000000) % 5 = 0, concat('checkout:', ['a', 'b'][who % 2 + 1]), ''),
    multiIf(denied, 'denied_param', who % 3 = 0, 'not_objected', 'granted'),
    if(denied, '', ['DE', 'AT', 'FR', 'NL', 'US'][locale]),
    if(denied, '', concat(['Region', 'Land', 'Département', 'Provincie', 'State'][locale], ' ', toString(intDiv(who, 1000) % 16))),
    if(denied, '', concat('City ', toString(toUInt32(pow((intDiv(who, 1000) % 100000 + 1) / 100000, -0.6))))),
    if(denied, '', ['Windows', 'Mac OS X', 'Windows', 'Android', 'iOS', 'iOS', 'Windows'][agent]),
    if(denied, '', ['10', '10.15.7', '10', '10', concat('18.', toString(who % 7)), '17.5', '10'][agent]),
    if(denied, '', ['Chrome', 'Chrome', 'Edge', 'Chrome Mobile', 'Mobile Safari', 'Mobile Safari', 'Firefox'][agent]),
    if(denied, '', ['141.0.0', '141.0.0', '140.0.0', '141.0.0', concat('18.', toString(who % 7)), '17.5', '143.0'][agent]),
    if(denied, '', ['desktop', 'desktop', 'desktop', 'mobile', 'mobile', 'tablet', 'desktop'][agent]),
    bot AND NOT denied,
    if(bot AND NOT denied, 'agent', ''),
    ['de-DE', 'de-AT', 'fr-FR', 'nl-NL', 'en-US'][locale],
    if(agent IN (4, 5), 390, 1920),
    if(agent IN (4, 5), 844, 1080),
    if(denied, toIPv6('::'), IPv4ToIPv6(toIPv4(toUInt32(bitAnd(who, 4294967040))))),
    cityHash64(toStartOfWeek(received_at), log_offset % 2),
    log_offset * 6 + what % 6,
    log_partition, log_offset, batch_first, batch_last
FROM dice
SETTINGS
    deduplicate_blocks_in_dependent_materialized_views = 0, insert_deduplicate = 0, max_partitions_per_insert_block = 0,
    max_insert_threads = 2, min_insert_block_size_rows = 2000000, min_insert_block_size_bytes = 4000000000;
