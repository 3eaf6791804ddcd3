-- Attribution: which touches earned the conversions, and their value.
--
-- Rule (CONTRACT, Touch and Attribution). A touch is a session, at its first counted event's time, with its value of `by`
-- (the channel). A conversion is a counted event of the name `event` with ts in [since, until). An order id converts once
-- per site and event name, the first in (ts, log order) of all times, whoever the visitor; an empty one never merges.
-- Each conversion shares 1, and its value, among its visitor's touches on its site with
-- conversion - lookback <= touch <= conversion, edges included; its own session is always one. Touches stand by
-- (time, log order of the first event); touches may precede since. Visitor 0 is left out, and bots' sessions without `bots`,
-- before order ids are merged.
-- Models: first, last: all to that touch · last-non-direct: the last touch whose channel is not Direct, else the last ·
-- linear: equal · time-decay: 2^(-age / 7 d), normalized · position: 40 / 20 / 40 (two: 50 / 50, one: 100).
--
-- Parameters: event String (Purchase) · models Array(String) · lookback_ms Int64 (30 d) · site String ('': all) ·
-- since_ms, until_ms Int64, ms since 1970 (0, year 2300) · by Identifier (channel), a column of events or `day`; the first
-- event's value counts · currency String ('': all), of the conversions, not converted · tz String (UTC) · bots UInt8 (0).
-- Columns: model String · value String · currency String · conversions Decimal(38,18) · amount Decimal(38,22), in major units of currency.
-- Credits are decimals of 18 places and the last touch takes what rounding left, so that they sum to exactly 1 for each
-- conversion, and amounts to exactly its value.
WITH
    seen AS
    (
        SELECT
            *,
            cityHash64(site) AS site_hash,
            toDate(ts, {tz:String}) AS day,
            toUnixTimestamp64Milli(ts) AS ms,
            -- One number that sorts as (ts, log order) does: ms (44 bits), log_partition (32), log_offset (52).
            bitOr(bitShiftLeft(toUInt128(ms), 84), bitShiftLeft(toUInt128(log_partition), 52) + log_offset) AS place
        FROM counted_events
        -- Few visitors convert; of the others no more is read than their ids.
        WHERE visitor_id IN (SELECT visitor_id FROM events WHERE event_name = {event:String} AND visitor_id != 0)
          AND ({site:String} = '' OR site = {site:String})
          AND ({bots:UInt8} OR cityHash64(site, visitor_id, session_id) NOT IN (
                SELECT cityHash64(site, visitor_id, session_id) FROM bot_sessions
                WHERE {site:String} = '' OR site = {site:String}))
    ),
    converted AS
    (
        SELECT site_hash, visitor_id, session_id, ms, value AS amount, currency
        FROM seen
        WHERE event_name = {event:String}
        ORDER BY place
        LIMIT 1 BY site_hash, order_id, if(order_id = '', 1 + rowNumberInAllBlocks(), 0)
    ),
    conversions AS
    (
        SELECT * FROM converted
        WHERE ms >= {since_ms:Int64} AND ms < {until_ms:Int64} AND ({currency:String} = '' OR currency = {currency:String})
    ),
    visitors AS
    (
        SELECT site_hash, visitor_id, arraySort(groupArray((first_place, toInt64(bitShiftRight(first_place, 84)), session_id, is_direct, touch_value))) AS touches
        FROM
        (
            SELECT
                site_hash, visitor_id, session_id,
                min(s.place) AS first_place,
                argMin(s.channel = 'Direct', s.place) AS is_direct,
                argMin(toString({by:Identifier}), s.place) AS touch_value
            FROM seen AS s
            GROUP BY site_hash, visitor_id, session_id
        )
        GROUP BY site_hash, visitor_id
    ),
    touched AS
    (
        SELECT
            c.ms AS ms,
            c.amount AS amount,
            c.currency AS currency,
            arrayFilter(
                t -> t.3 = c.session_id OR (t.2 >= c.ms - {lookback_ms:Int64} AND t.2 <= c.ms), v.touches) AS touches,
            length(touches) AS n,
            arrayLastIndex(t -> NOT t.4, touches) AS last_non_direct
        FROM conversions AS c
        INNER JOIN visitors AS v ON c.site_hash = v.site_hash AND c.visitor_id = v.visitor_id
    ),
    shared AS
    (
        SELECT
            model,
            amount,
            currency,
            touches,
            arrayMap(
                (t, i) -> multiIf(
                    model = 'first', toFloat64(i = 1),
                    model = 'last', toFloat64(i = n),
                    model = 'last-non-direct', toFloat64(i = if(last_non_direct = 0, n, last_non_direct)),
                    model = 'linear', toFloat64(1),
                    model = 'time-decay', exp2((t.2 - ms) / 604800000),
                    n <= 2, toFloat64(1),
                    i = 1 OR i = n, 0.4,
                    0.2 / (n - 2)),
                touches, arrayEnumerate(touches)) AS weights,
            arrayMap(w -> toDecimal128(w / arraySum(weights), 18), arrayPopBack(weights)) AS credits_but_last,
            arrayPushBack(credits_but_last, toDecimal128(1, 18) - arraySum(credits_but_last)) AS credits
        FROM touched
        ARRAY JOIN {models:Array(String)} AS model
    )
SELECT
    model,
    touch.5 AS value,
    currency,
    sum(credit) AS conversions,
    sum(shared.amount * credit) AS amount
FROM shared
ARRAY JOIN touches AS touch, credits AS credit
WHERE credit != 0
GROUP BY model, value, currency
ORDER BY indexOf({models:Array(String)}, model), conversions DESC, value, currency
SETTINGS
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
