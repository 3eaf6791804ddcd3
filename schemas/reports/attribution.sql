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
-- event's value counts · by_session UInt8: `by` is `day`, site, or what a session takes from its opener, and session_by is
-- then `by`, else `site` · currency String ('': all), of the conversions, not converted · tz String (UTC) · bots UInt8 (0) ·
-- counted_events Identifier, that view, or `events` where all of them count · conversion_events Identifier, the same, or
-- listed_purchases, where the event is Purchase and all of them count.
-- Columns: model String · value String · currency String · conversions Decimal(38,18) · amount Decimal(38,22), in major units of currency.
-- Credits are decimals of 18 places and the last touch takes what rounding left, so that they sum to exactly 1 for each
-- conversion, and amounts to exactly its value.
--
-- How. Touches are read from the sessions, a row each; only of a visitor with two at the same millisecond, or when `by` is
-- not the session's, from the events, whose log order tells. A touch is one number: a key that sorts as touches stand (ms,
-- 44 bits, rank among equals, 19, and whether it is Direct, 1), then the 64-bit hash of its value. A session begins before what
-- it converts, so its own is never too late, only too early.
-- All models are summed in one pass over the touches of all conversions. What is read twice is a MATERIALIZED CTE.
WITH
    converted AS MATERIALIZED
    (
        SELECT
            argMin(visitor_id, place) AS visitor_id,
            argMin(visitor, place) AS visitor,
            argMin(session_id, place) AS session_id,
            min(ms) AS ms,
            argMin(currency, place) AS currency,
            argMin(amount, place) AS amount
        FROM
        (
            SELECT
                site, order_id, visitor_id, bitXor(visitor_id, cityHash64(site)) AS visitor, session_id, currency,
                toUnixTimestamp64Milli(ts) AS ms,
                toInt128(toDecimal128(value, 4) * 10000) AS amount,
                (log_partition, log_offset) AS row,
                -- One number that sorts as (ts, log order) does: ms (44 bits), log_partition (32), log_offset (52).
                bitOr(bitShiftLeft(toUInt128(ms), 84), bitShiftLeft(toUInt128(log_partition), 52) + log_offset) AS place
            FROM {conversion_events:Identifier}
            WHERE event_name = {event:String} AND visitor_id != 0
              AND ({site:String} = '' OR site = {site:String})
              AND ({bots:UInt8} OR cityHash64(site, visitor_id, session_id) NOT IN (
                    SELECT cityHash64(site, visitor_id, session_id) FROM bot_sessions
                    WHERE {site:String} = '' OR site = {site:String}))
        )
        -- What is listed more than once is one row, too.
        GROUP BY if(order_id = '', cityHash64(row), cityHash64(site, order_id))
    ),
    conversions AS
    (
        SELECT * FROM converted
        WHERE ms >= {since_ms:Int64} AND ms < {until_ms:Int64} AND ({currency:String} = '' OR currency = {currency:String})
    ),
    visits AS
    (
        SELECT p.visitor AS visitor, p.session_id AS session_id, min(p.touch) AS touch
        FROM
        (
            SELECT
                bitXor(visitor_id, cityHash64(site)) AS visitor, session_id, is_bot, toDate(first_ts, {tz:String}) AS day,
                bitShiftLeft(toUInt64(toUnixTimestamp64Milli(first_ts)), 20) + (channel = 'Direct') AS key,
                bitShiftLeft(toUInt128(key), 64) + cityHash64(toString({session_by:Identifier})) AS touch
            FROM session_parts
            WHERE {by_session:UInt8}
              AND visitor IN (SELECT visitor FROM converted)
              AND ({site:String} = '' OR site = {site:String})
              --[ server events
              AND (site, visitor_id, session_id) NOT IN (SELECT site, visitor_id, session_id FROM uncounted_events)
            UNION ALL
            SELECT
                bitXor(visitor_id, cityHash64(site)) AS visitor, session_id, is_bot, toDate(first_ts, {tz:String}) AS day,
                bitShiftLeft(toUInt64(toUnixTimestamp64Milli(first_ts)), 20) + (channel = 'Direct') AS key,
                bitShiftLeft(toUInt128(key), 64) + cityHash64(toString({session_by:Identifier})) AS touch
            FROM recounted_sessions
            WHERE {by_session:UInt8} AND ({site:String} = '' OR site = {site:String})
            --]
        ) AS p
        GROUP BY visitor, session_id
        HAVING {bots:UInt8} OR max(p.is_bot) = 0
    ),
    visiting AS MATERIALIZED
    (
        SELECT
            visitor,
            groupArray(touch) AS touches,
            groupArray(session_id) AS sessions,
            arrayUniq(arrayMap(t -> toUInt64(bitShiftRight(t, 84)), touches)) < length(touches) AS is_tied
        FROM visits
        GROUP BY visitor
    ),
    tied AS (SELECT visitor FROM visiting WHERE is_tied),
    seen AS
    (
        SELECT
            *,
            bitXor(visitor_id, cityHash64(site)) AS visitor,
            toDate(ts, {tz:String}) AS day,
            bitOr(bitShiftLeft(toUInt128(toUnixTimestamp64Milli(ts)), 84), bitShiftLeft(toUInt128(log_partition), 52) + log_offset) AS place
        FROM {counted_events:Identifier}
        -- By id first, so that only these visitors' granules are read.
        WHERE visitor_id IN (
                SELECT bitXor(t.visitor, cityHash64(s.site))
                FROM tied AS t CROSS JOIN (SELECT DISTINCT site FROM session_parts) AS s
                UNION ALL
                SELECT visitor_id FROM converted WHERE NOT {by_session:UInt8})
          AND (NOT {by_session:UInt8} OR visitor IN (SELECT visitor FROM tied))
          AND ({site:String} = '' OR site = {site:String})
          AND ({bots:UInt8} OR cityHash64(site, visitor_id, session_id) NOT IN (
                SELECT cityHash64(site, visitor_id, session_id) FROM bot_sessions
                WHERE {site:String} = '' OR site = {site:String}))
    ),
    visitors AS
    (
        SELECT visitor, touches, sessions FROM visiting WHERE NOT is_tied
        UNION ALL
        SELECT visitor, groupArray(touch) AS touches, groupArray(session_id) AS sessions
        FROM
        (
            SELECT
                visitor, session_id,
                bitShiftLeft(toUInt64(bitShiftRight(first_place, 84)), 20)
                    + row_number() OVER (PARTITION BY visitor ORDER BY first_place) % 524288 * 2 + is_direct AS key,
                bitShiftLeft(toUInt128(key), 64) + value_hash AS touch
            FROM
            (
                SELECT
                    visitor, session_id,
                    min(s.place) AS first_place,
                    argMin(s.channel = 'Direct', s.place) AS is_direct,
                    argMin(cityHash64(toString({by:Identifier})), s.place) AS value_hash
                FROM seen AS s
                GROUP BY visitor, session_id
            )
        )
        GROUP BY visitor
    ),
    1000000000000000000::Int64 AS one,
    touched AS
    (
        SELECT
            c.ms AS ms,
            c.amount AS amount,
            c.currency AS currency,
            bitShiftLeft(toUInt128(greatest(c.ms - {lookback_ms:Int64}, 0)), 84) AS earliest,
            bitShiftLeft(toUInt128(c.ms + 1), 84) AS after_latest,
            arraySort(arrayFilter((t, s) -> t < after_latest AND (t >= earliest OR s = c.session_id), v.touches, v.sessions)) AS touches,
            toInt64(length(touches)) AS n,
            arrayLastIndex(t -> NOT bitTest(toUInt64(bitShiftRight(t, 64)), 0), touches) AS last_non_direct,
            if(last_non_direct = 0, n, last_non_direct) AS chosen,
            arrayMap(t -> exp2((toInt64(bitShiftRight(t, 84)) - c.ms) / 604800000), touches) AS weights,
            arraySum(weights) AS weight_sum,
            arrayMap(w -> toInt64(w / weight_sum * one), arrayPopBack(weights)) AS decays_but_last,
            arrayPushBack(decays_but_last, one - arraySum(decays_but_last)) AS decays,
            intDiv(one, n) AS equal,
            one - equal * (n - 1) AS equal_last,
            -- 40 %, of two 50 %; the last has what is left.
            if(n = 2, intDiv(one, 2), intDiv(one, 10) * 4) AS outer,
            intDiv(intDiv(one, 10) * 2, greatest(n - 2, 1)) AS inner,
            multiIf(n = 1, one, n = 2, one - outer, one - outer - inner * (n - 2)) AS outer_last
        FROM conversions AS c
        INNER JOIN visitors AS v ON c.visitor = v.visitor
    ),
    credited AS
    (
        SELECT
            toUInt64(touch) AS value_hash,
            currency,
            toInt128(countIf(i = 1)) * one AS first_credits,
            toInt128(countIf(i = n)) * one AS last_credits,
            toInt128(countIf(i = chosen)) * one AS non_direct_credits,
            sum(toInt128(if(i = n, equal_last, equal) AS of_linear)) AS linear_credits,
            sum(toInt128(decay)) AS decay_credits,
            sum(toInt128(multiIf(i = n, outer_last, i = 1, outer, inner) AS of_position)) AS position_credits,
            sumIf(t.amount, i = 1) * one AS first_amount,
            sumIf(t.amount, i = n) * one AS last_amount,
            sumIf(t.amount, i = chosen) * one AS non_direct_amount,
            sum(t.amount * of_linear) AS linear_amount,
            sum(t.amount * decay) AS decay_amount,
            sum(t.amount * of_position) AS position_amount
        FROM touched AS t
        ARRAY JOIN touches AS touch, decays AS decay, arrayEnumerate(touches) AS i
        GROUP BY value_hash, currency
    ),
    value_names AS
    (
        SELECT cityHash64(value) AS value_hash, value
        FROM
        (
            SELECT toString({session_by:Identifier}) AS value
            FROM (SELECT *, toDate(first_ts, {tz:String}) AS day FROM session_parts)
            WHERE {by_session:UInt8}
            UNION ALL
            SELECT toString({by:Identifier}) AS value
            FROM (SELECT *, toDate(ts, {tz:String}) AS day FROM events)
            WHERE NOT {by_session:UInt8}
            --[ server events
            OR 1
            --]
        )
        GROUP BY value
    )
SELECT
    credit.1 AS model,
    value_names.value AS value,
    currency,
    reinterpret(credit.2, 'Decimal(38, 18)') AS conversions,
    reinterpret(credit.3, 'Decimal(38, 22)') AS amount
FROM credited
INNER JOIN value_names ON credited.value_hash = value_names.value_hash
ARRAY JOIN arrayFilter(
    c -> c.2 != 0 AND has({models:Array(String)}, c.1),
    [('first', first_credits, first_amount), ('last', last_credits, last_amount),
     ('last-non-direct', non_direct_credits, non_direct_amount), ('linear', linear_credits, linear_amount),
     ('time-decay', decay_credits, decay_amount), ('position', position_credits, position_amount)]) AS credit
ORDER BY indexOf({models:Array(String)}, model), conversions DESC, value, currency
SETTINGS
    enable_materialized_cte = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
