-- Funnel: how many visitors took the steps in order, within a window.
--
-- Rule (CONTRACT, Funnel): per site and visitor, the largest k for which k distinct counted events in order match steps
-- 1..k with last - first <= window; the first in [since, until), later ones may pass until. Order is ts, ties by log
-- order (log_partition, log_offset). Visitor 0 is left out, and bots' sessions without `bots`. A visitor whose k is at
-- least i counts in step i. Breakdown: the value of the first event; of several first events that reach the visitor's
-- largest k it is the earliest in that order.
--
-- Parameters: steps Array(String), 1 to 32, a name may repeat · window_ms Int64 (7 d) · site String ('': all) ·
-- since_ms, until_ms Int64, ms since 1970 (0, year 2300) · breakdown UInt8 (0) · by Identifier, a column of events or
-- `day` (read only with breakdown) · tz String (UTC), cuts days · bots UInt8 (0) ·
-- counted_events Identifier, that view, or `events` where all of them count.
-- Columns: value String (the breakdown's; '' without) · step UInt64 from 1 · event String · count UInt64 visitors ·
-- rate_total = count / count of step 1 · rate_step = count / count of the step before (both 1 at step 1; 0 for 0 / 0).
-- Every value has a row for each step; values stand by count of step 1, the largest first, then by name.
--
-- How. A key is one number: ts in ms (44 bits), which of the values the event has (13), which of the steps' names (6). Keys
-- sort as the order does unless two are of the same millisecond.
-- Level i keeps for each event the latest start of a chain of i steps that ended before it; the latest start leaves the most
-- window, so it decides alone whether the event completes level i + 1. Starts only rise, so the last good one is carried on
-- (arrayFill). Events that match no later step are dropped on the way.
-- The earliest start of the largest k: let d be the event that first completes level k. A start reaches k just if it
-- reaches d, for it stands before the start found for d; so it is the first step-1 event with ts >= d.ts - window.
-- That is done for all visitors, by keys alone (`plain`). The *odd* ones are then read again, by session and in log order:
-- who has two different keys of one millisecond (or of neighbouring ones, which is not told apart), and who has sessions of a
-- bot and others; all visitors, if 13 bits do not hold the values. Odd visitors are few, so arrayFold is good enough for them.
-- Visitors, sessions and odd visitors' values are told apart by 64-bit hashes.
WITH
    {steps:Array(String)} AS steps,
    -- Subqueries, for then their values stand wherever they are used, not their expressions.
    (SELECT arrayDistinct({steps:Array(String)})) AS names,
    (SELECT arrayEnumerate(names)::Array(UInt8)) AS name_codes,
    {window_ms:Int64} AS window_ms,
    window_ms * 524288 + 524287 AS window_keys,
    arrayMap(s -> toInt64(indexOf(names, s)), steps) AS codes,
    -- Per step from the second: its name's code, a bit for each code that any later step has, whether the step before has its
    -- code.
    (
        SELECT arrayMap(
            i -> (codes[i],
                  arrayReduce('groupBitOr', arrayMap(c -> bitShiftLeft(toUInt64(1), c), arrayPushBack(arraySlice(codes, i + 1), 0))),
                  codes[i] = codes[i - 1]),
            range(2, length(steps) + 1))
    ) AS plan,
    (
        SELECT groupArray(toString(by_value))::Array(String)
        FROM
        (
            SELECT {by:Identifier} AS by_value FROM (SELECT *, toDate(ts, {tz:String}) AS day FROM events)
            GROUP BY by_value LIMIT 8192
        )
    ) AS by_values,
    (SELECT arrayMap(i -> toUInt32(i * 64), arrayEnumerate(by_values))) AS value_codes,
    length(by_values) = 8192 AS are_too_many,
    -- The latest start at or before each event: the least key of its millisecond; 0: none.
    chain -> arrayFill(x -> x != 0, arrayMap(
        e -> if(bitAnd(e, 63) = 1 AND e < {until_ms:Int64} * 524288, bitOr(bitAnd(e, -524288), 1), 0), chain)) AS starts_of,
    -- Takes and gives: events that match this step or a later one, the latest start at or before each, the level, the event
    -- that first completed it.
    (acc, step) -> (
        arrayFilter(e -> bitTest(step.2, bitAnd(e, 63)), acc.1),
        arrayFilter(
            (start, e) -> bitTest(step.2, bitAnd(e, 63)),
            arrayFill(x -> x != 0, arrayMap(
                (e, start) -> if(bitAnd(e, 63) = step.1 AND start != 0 AND e - start <= window_keys, start, 0),
                acc.1, if(step.3, arrayShiftRight(acc.2, 1, 0), acc.2))) AS starts,
            acc.1),
        acc.3 + (starts[-1] != 0),
        if(starts[-1] = 0, acc.4, arrayFirst((e, start) -> start != 0, acc.1, starts))) AS advance,
    seen AS
    (
        SELECT
            site,
            visitor_id,
            session_id,
            bitXor(visitor_id, cityHash64(site)) AS visitor,
            toDate(ts, {tz:String}) AS day,
            toUnixTimestamp64Milli(ts) AS ms,
            ms * 524288
                + transform(event_name, names, name_codes, toUInt8(0))
                + transform(toString({by:Identifier}), by_values, value_codes, toUInt32(0)) AS key,
            bitOr(bitShiftLeft(toUInt128(ms), 64), bitOr(bitShiftLeft(toUInt64(log_partition), 48), log_offset)) AS place,
            cityHash64(toString({by:Identifier})) AS value_hash
        FROM {counted_events:Identifier}
        WHERE visitor_id != 0
          AND event_name IN {steps:Array(String)}
          AND ({site:String} = '' OR site = {site:String})
          AND ({since_ms:Int64} = 0 OR ts >= fromUnixTimestamp64Milli({since_ms:Int64}))
          AND ({until_ms:Int64} + window_ms >= 10413791999999
               OR ts < fromUnixTimestamp64Milli(least({until_ms:Int64} + window_ms, 10413791999999)))
    ),
    bots AS MATERIALIZED
    (
        SELECT bitXor(visitor_id, cityHash64(site)) AS visitor, bitXor(intHash64(visitor), session_id) AS session
        FROM bot_sessions
        WHERE NOT {bots:UInt8} AND ({site:String} = '' OR site = {site:String})
    ),
    plain AS
    (
        SELECT
            visitor,
            arraySort(groupArray(key)) AS chain,
            arrayExists(apart -> apart BETWEEN 1 AND 524287, arrayDifference(chain)) AS is_tied,
            starts_of(chain) AS starts
        FROM seen
        WHERE NOT are_too_many
        GROUP BY visitor
    ),
    -- Four steps are most; arrayFold costs more than all of them. A step that there is none of changes nothing.
    plain_1 AS (SELECT *, (chain, starts, toUInt64(starts[-1] != 0), arrayFirst(x -> x != 0, starts)) AS acc FROM plain),
    plain_2 AS (SELECT * EXCEPT acc, advance(acc, plan[1]) AS acc FROM plain_1),
    plain_3 AS (SELECT * EXCEPT acc, advance(acc, plan[2]) AS acc FROM plain_2),
    plain_4 AS (SELECT * EXCEPT acc, advance(acc, plan[3]) AS acc FROM plain_3),
    plain_n AS
    (
        SELECT
            * EXCEPT acc,
            if(length(steps) > 4, arrayFold((acc, step) -> advance(acc, step), arraySlice(plan, 4), acc), acc) AS last,
            last.3 AS level,
            greatest(bitShiftRight(last.4, 19) - window_ms, 0) * 524288 AS from_key
        FROM plain_4
    ),
    plain_levels AS MATERIALIZED
    (
        SELECT
            visitor IN (SELECT visitor FROM bots) AS is_out,
            level * NOT (is_tied OR is_out) AS of_level,
            if({breakdown:UInt8}, bitAnd(bitShiftRight(arrayFirst(e -> bitAnd(e, 63) = 1 AND e >= from_key, chain), 6), 8191), 0)
                * (of_level != 0) AS value_code,
            count() AS visitors,
            groupArrayIf(visitor, is_tied AND NOT is_out) AS tied
        FROM plain_n
        GROUP BY is_out, of_level, value_code
    ),
    odd_visitors AS
    (
        SELECT arrayJoin(tied) AS visitor FROM plain_levels
        UNION ALL
        SELECT bitXor(visitor_id, cityHash64(site)) AS visitor
        FROM session_parts
        WHERE visitor IN (SELECT visitor FROM bots) AND bitXor(intHash64(visitor), session_id) NOT IN (SELECT session FROM bots)
    ),
    odd AS
    (
        SELECT
            groupArray(key) AS keys,
            groupArray(place) AS places,
            arraySort((k, p) -> p, keys, places) AS chain,
            arraySort((v, p) -> p, groupArray(value_hash), places) AS value_hashes,
            starts_of(chain) AS starts
        FROM seen
        WHERE (are_too_many
               -- As columns of the sort key, so that only their granules are read.
               OR (site, visitor_id) IN (
                    SELECT s.site, bitXor(o.visitor, cityHash64(s.site))
                    FROM odd_visitors AS o CROSS JOIN (SELECT DISTINCT site FROM events) AS s))
          AND bitXor(intHash64(visitor), session_id) NOT IN (SELECT session FROM bots)
        GROUP BY visitor
    ),
    odd_n AS
    (
        SELECT
            *,
            arrayFold((acc, step) -> advance(acc, step), plan,
                      (chain, starts, toUInt64(starts[-1] != 0), arrayFirst(x -> x != 0, starts))) AS last,
            last.3 AS level,
            greatest(bitShiftRight(last.4, 19) - window_ms, 0) * 524288 AS from_key
        FROM odd
    ),
    levels AS
    (
        SELECT value_hash, groupArray((level, visitors)) AS by_level
        FROM
        (
            SELECT if({breakdown:UInt8}, cityHash64(by_values[value_code]), 0) AS value_hash, of_level AS level, visitors
            FROM plain_levels
            WHERE of_level != 0
            UNION ALL
            SELECT
                if({breakdown:UInt8}, value_hashes[arrayFirstIndex(e -> bitAnd(e, 63) = 1 AND e >= from_key, chain)], 0) AS value_hash,
                level,
                count() AS visitors
            FROM odd_n
            WHERE level != 0
            GROUP BY value_hash, level
            UNION ALL
            SELECT toUInt64(0), toUInt64(0), toUInt64(0) WHERE NOT {breakdown:UInt8}
        )
        GROUP BY value_hash
    ),
    value_names AS
    (
        SELECT cityHash64(value) AS value_hash, value
        FROM
        (
            SELECT arrayJoin(by_values) AS value WHERE NOT are_too_many
            UNION ALL
            SELECT toString({by:Identifier}) AS value FROM (SELECT *, toDate(ts, {tz:String}) AS day FROM events)
            WHERE are_too_many
            GROUP BY value
        )
        WHERE {breakdown:UInt8}
    )
SELECT
    value_names.value AS value,
    step,
    steps[step] AS event,
    arraySum(r -> if(r.1 >= step, r.2, 0), by_level) AS count,
    arraySum(r -> if(r.1 >= 1, r.2, 0), by_level) AS count_first,
    arraySum(r -> if(r.1 >= greatest(step - 1, 1), r.2, 0), by_level) AS count_before,
    if(count_first = 0, 0, count / count_first) AS rate_total,
    if(count_before = 0, 0, count / count_before) AS rate_step
FROM levels
LEFT JOIN value_names ON levels.value_hash = value_names.value_hash
ARRAY JOIN arrayEnumerate(steps) AS step
ORDER BY count_first DESC, value, step
SETTINGS
    enable_materialized_cte = 1,
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
