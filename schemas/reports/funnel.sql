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
-- `day` (read only with breakdown) · tz String (UTC), cuts days · bots UInt8 (0).
-- Columns: value String (the breakdown's; '' without) · step UInt64 from 1 · event String · count UInt64 visitors ·
-- rate_total = count / count of step 1 · rate_step = count / count of the step before (both 1 at step 1; 0 for 0 / 0).
-- Every value has a row for each step; values stand by count of step 1, the largest first, then by name.
--
-- How. A key is one number that sorts as the order does: ts in ms (44 bits), log_partition (20), log_offset (58), and which
-- of the steps' names the event has (6). It is made with two operations on wide numbers, which cost more than all else here.
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
    seen AS
    (
        SELECT
            bitXor(visitor_id, cityHash64(site)) AS visitor,
            toDate(ts, {tz:String}) AS day,
            toUInt64(toUnixTimestamp64Milli(ts)) AS ms,
            transform(event_name, names, arrayMap(i -> toUInt8(i), arrayEnumerate(names)), toUInt8(0)) AS code,
            bitShiftLeft(toUInt128(bitOr(bitShiftLeft(ms, 20), log_partition)), 64) + bitOr(bitShiftLeft(log_offset, 6), code) AS key,
            cityHash64({by:Identifier}) AS value_hash
        FROM counted_events
        WHERE visitor_id != 0
          AND event_name IN {steps:Array(String)}
          AND ({site:String} = '' OR site = {site:String})
          AND ts >= fromUnixTimestamp64Milli({since_ms:Int64})
          AND ts < fromUnixTimestamp64Milli(least({until_ms:Int64} + window_ms, 10413791999999))
          AND ({bots:UInt8} OR bitXor(intHash64(bitXor(visitor_id, cityHash64(site))), session_id) NOT IN (
                SELECT bitXor(intHash64(bitXor(visitor_id, cityHash64(site))), session_id) FROM bot_sessions
                WHERE {site:String} = '' OR site = {site:String}))
    ),
    visitors AS
    (
        SELECT
            groupArray(key) AS keys,
            groupArrayIf(value_hash, {breakdown:UInt8}) AS value_hashes,
            arraySort(keys) AS ordered,
            -- ms << 6 | code
            arrayMap(k -> bitOr(bitShiftLeft(bitShiftRight(toUInt64(bitShiftRight(k, 64)), 20), 6), bitAnd(toUInt64(k), 63)), ordered) AS chain,
            -- The latest start at or before each event, in ms + 1; 0: none.
            arrayFill(x -> x != 0, arrayMap(
                e -> if(bitAnd(e, 63) = 1 AND bitShiftRight(e, 6) < {until_ms:Int64}, bitShiftRight(e, 6) + 1, toUInt64(0)),
                chain)) AS level_1
        FROM seen
        GROUP BY visitor
        HAVING level_1[-1] != 0
    )
    ,
    reached AS
    (
        SELECT
            arrayFold(
                (acc, step) -> (
                    arrayFilter(e -> bitTest(step.2, bitAnd(e, 63)), acc.1),
                    arrayFilter(
                        (start, e) -> bitTest(step.2, bitAnd(e, 63)),
                        arrayPopBack(arrayPushFront(
                            arrayFill(x -> x != 0, arrayMap(
                                (e, start) -> if(bitAnd(e, 63) = step.1 AND start != 0
                                                 AND bitShiftRight(e, 6) + 1 - start <= window_ms, start, toUInt64(0)),
                                acc.1, acc.2)) AS level,
                            toUInt64(0))),
                        acc.1),
                    if(level[-1] != 0, toUInt64(acc.3 + 1), acc.3),
                    if(level[-1] != 0, bitShiftRight(arrayFirst((e, start) -> start != 0, acc.1, level), 6), acc.4)),
                plan,
                (
                    arrayFilter(e -> bitTest(after_first, bitAnd(e, 63)), chain),
                    arrayFilter((start, e) -> bitTest(after_first, bitAnd(e, 63)),
                                arrayPopBack(arrayPushFront(level_1, toUInt64(0))), chain),
                    toUInt64(1),
                    toUInt64(arrayFirst(x -> x != 0, level_1) - 1)
                )) AS last,
            last.3 AS level,
            toUInt64(greatest(toInt64(last.4) - window_ms, {since_ms:Int64})) AS from_ms,
            ordered[arrayFirstIndex(e -> bitAnd(e, 63) = 1 AND bitShiftRight(e, 6) >= from_ms, chain)] AS start_key,
            if({breakdown:UInt8}, value_hashes[arrayFirstIndex(k -> k = start_key, keys)], 0) AS value_hash
        FROM visitors
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
