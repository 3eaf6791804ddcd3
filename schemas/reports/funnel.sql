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
-- How. A key is one number: ts in ms, and which of the steps' names the event has (6 bits). Keys sort as the order does unless
-- two are of the same millisecond; only such a visitor's are sorted by log_partition (16 bits) and log_offset (48) too.
-- Level i keeps for each event the latest start of a chain of i steps that ended
-- before it; the latest start leaves the most window, so it decides alone whether the event completes level i + 1. Starts
-- only rise, so the last good one is carried on (arrayFill). Events that match no later step are dropped on the way.
-- The earliest start of the largest k: let d be the event that first completes level k. A start reaches k just if it
-- reaches d, for it stands before the start found for d; so it is the first step-1 event with ts >= d.ts - window.
-- Visitors, sessions and values are told apart by 64-bit hashes.
WITH
    {steps:Array(String)} AS steps,
    arrayDistinct(steps) AS names,
    {window_ms:Int64} AS window_ms,
    arrayMap(s -> bitShiftLeft(toUInt64(1), indexOf(names, s)), steps) AS bits,
    -- Per step from the second: its name's code, and a bit for each code that any later step has.
    arrayMap(
        i -> (toUInt64(indexOf(names, steps[i])), arrayReduce('groupBitOr', arrayPushBack(arraySlice(bits, i + 1), toUInt64(0)))),
        range(2, length(steps) + 1)) AS plan,
    arrayReduce('groupBitOr', arrayPushBack(arraySlice(bits, 2), toUInt64(0))) AS after_first,
    -- Takes and gives: events that match a later step, the latest start before each, the level, when it was first completed.
    (acc, step) -> (
        arrayFilter(e -> bitTest(step.2, bitAnd(e, 63)), acc.1),
        arrayFilter(
            (start, e) -> bitTest(step.2, bitAnd(e, 63)),
            arrayPopBack(arrayPushFront(
                arrayFill(x -> x != 0, arrayMap(
                    (e, start) -> (bitAnd(e, 63) = step.1 AND start != 0 AND bitShiftRight(e, 6) + 1 - start <= window_ms) * start,
                    acc.1, acc.2)) AS starts,
                toUInt64(0))),
            acc.1),
        acc.3 + (starts[-1] != 0),
        bitShiftRight(arrayFirst((e, start) -> start != 0, acc.1, starts), 6) + (starts[-1] = 0) * acc.4) AS advance,
    seen AS
    (
        SELECT
            bitXor(visitor_id, cityHash64(site)) AS visitor,
            toDate(ts, {tz:String}) AS day,
            transform(event_name, names, arrayEnumerate(names)::Array(UInt8), toUInt8(0)) AS code,
            bitOr(bitShiftLeft(toUInt64(toUnixTimestamp64Milli(ts)), 6), code) AS key,
            bitOr(bitShiftLeft(toUInt64(log_partition), 48), log_offset) AS log_place,
            cityHash64({by:Identifier}) AS value_hash
        FROM {counted_events:Identifier}
        WHERE visitor_id != 0
          AND event_name IN {steps:Array(String)}
          AND ({site:String} = '' OR site = {site:String})
          AND ({since_ms:Int64} = 0 OR ts >= fromUnixTimestamp64Milli({since_ms:Int64}))
          AND ({until_ms:Int64} + window_ms >= 10413791999999
               OR ts < fromUnixTimestamp64Milli(least({until_ms:Int64} + window_ms, 10413791999999)))
          AND ({bots:UInt8} OR bitXor(intHash64(bitXor(visitor_id, cityHash64(site))), session_id) NOT IN (
                SELECT bitXor(intHash64(bitXor(visitor_id, cityHash64(site))), session_id) FROM bot_sessions
                WHERE {site:String} = '' OR site = {site:String}))
    ),
    visitors AS
    (
        SELECT
            groupArray(key) AS keys,
            groupArray(log_place) AS log_places,
            groupArrayIf(value_hash, {breakdown:UInt8}) AS value_hashes,
            arraySort(keys) AS by_key,
            arrayExists((k, before) -> bitShiftRight(k, 6) = bitShiftRight(before, 6), by_key,
                        arrayPopBack(arrayPushFront(by_key, toUInt64(0)))) AS is_tied,
            if(is_tied, arraySort((k, p) -> (bitShiftRight(k, 6), p), keys, log_places), by_key) AS chain,
            -- The latest start at or before each event, in ms + 1; 0: none.
            arrayFill(x -> x != 0, arrayMap(
                e -> if(bitAnd(e, 63) = 1 AND bitShiftRight(e, 6) < {until_ms:Int64}, bitShiftRight(e, 6) + 1, toUInt64(0)),
                chain)) AS level_1
        FROM seen
        GROUP BY visitor
        HAVING level_1[-1] != 0
    ),
    first AS
    (
        SELECT
            *,
            (
                arrayFilter(e -> bitTest(after_first, bitAnd(e, 63)), chain),
                arrayFilter((start, e) -> bitTest(after_first, bitAnd(e, 63)),
                            arrayPopBack(arrayPushFront(level_1, toUInt64(0))), chain),
                toUInt64(1),
                toUInt64(arrayFirst(x -> x != 0, level_1) - 1)
            ) AS acc
        FROM visitors
    ),
    -- Four steps are most; arrayFold costs more than all of them. A step that there is none of changes nothing.
    second AS (SELECT * EXCEPT acc, advance(acc, plan[1]) AS acc FROM first),
    third AS (SELECT * EXCEPT acc, advance(acc, plan[2]) AS acc FROM second),
    fourth AS (SELECT * EXCEPT acc, advance(acc, plan[3]) AS acc FROM third),
    reached AS
    (
        SELECT
            if(length(steps) > 4, arrayFold((acc, step) -> advance(acc, step), arraySlice(plan, 4), acc), acc) AS last,
            last.3 AS level,
            toUInt64(greatest(toInt64(last.4) - window_ms, {since_ms:Int64})) AS from_ms,
            arrayFirstIndex(e -> bitAnd(e, 63) = 1 AND bitShiftRight(e, 6) >= from_ms, chain) AS start,
            value_hashes[indexOf(keys, chain[start])] AS untied_hash,
            if({breakdown:UInt8}, bitXor(untied_hash, if(is_tied, bitXor(untied_hash,
                arraySort((v, k, p) -> (bitShiftRight(k, 6), p), value_hashes, keys, log_places)[start]), 0)), 0) AS value_hash
        FROM fourth
    ),
    levels AS
    (
        SELECT value_hash, groupArray((level, visitors)) AS by_level
        FROM
        (
            SELECT value_hash, level, count() AS visitors FROM reached GROUP BY value_hash, level
            UNION ALL
            SELECT toUInt64(0), toUInt64(0), toUInt64(0) WHERE NOT {breakdown:UInt8}
        )
        GROUP BY value_hash
    ),
    value_names AS
    (
        SELECT cityHash64(by_value) AS value_hash, toString(by_value) AS value
        FROM (SELECT {by:Identifier} AS by_value FROM (SELECT *, toDate(ts, {tz:String}) AS day FROM events) GROUP BY by_value)
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
    output_format_json_quote_64bit_integers = 0,
    output_format_json_quote_decimals = 0,
    output_format_json_validate_utf8 = 1
