-- Events, their sessions, and the ledger of batches. One numbered file is applied once, statement by statement.
-- `non_replicated_deduplication_window` stands on every table and on the view's target: a repeated insert with the same
-- insert_deduplication_token adds nothing there, and without it a retry would double the rows. The window counts blocks
-- of the whole table, so it outlasts the oldest retry by far at any number of log partitions.

CREATE TABLE IF NOT EXISTS events
(
    site             LowCardinality(String),
    event_name       LowCardinality(String),
    event_id         String COMMENT 'as the client gave it; empty: none',
    user_id          String,
    ts               DateTime64(3, 'UTC') COMMENT 'event time, by the rule of ts_source',
    ts_source        LowCardinality(String) COMMENT 'client | shifted | received | too_old | ahead',
    received_at      DateTime64(3, 'UTC'),
    source           LowCardinality(String) COMMENT 'pixel | beacon | server | click | email',
    visitor_id       UInt64 COMMENT '0: no visitor',
    session_id       UInt64 COMMENT '0: no visitor',
    session_start    DateTime64(3, 'UTC') COMMENT 'ts of the event that opened the session',
    channel          LowCardinality(String) COMMENT 'GA4 default channel group of the session',
    utm_source       LowCardinality(String) COMMENT 'utm_* and click id are the session''s, as channel is',
    utm_medium       LowCardinality(String),
    utm_campaign     LowCardinality(String),
    utm_term         String,
    utm_content      String,
    click_id         String,
    click_id_type    LowCardinality(String),
    ref_host         LowCardinality(String) COMMENT 'host of the event''s own referrer; empty: none or internal',
    url_host         LowCardinality(String),
    url_path         String,
    url_query        String,
    title            String,
    value            Decimal(18, 4) COMMENT 'major units of currency',
    currency         LowCardinality(String) COMMENT 'ISO 4217',
    order_id         String,
    items            Array(Tuple(sku String, name String, category String, price Decimal(18, 4), qty UInt32)),
    props            Map(String, String),
    ab               String COMMENT 'experiment:variant',
    consent          LowCardinality(String),
    country          LowCardinality(String),
    region           LowCardinality(String),
    city             LowCardinality(String),
    os               LowCardinality(String),
    os_version       LowCardinality(String),
    browser          LowCardinality(String),
    browser_version  LowCardinality(String),
    device           LowCardinality(String) COMMENT 'desktop | mobile | tablet | tv | console | other | bot',
    is_bot           UInt8,
    bot_reason       LowCardinality(String),
    lang             LowCardinality(String),
    screen_w         UInt16,
    screen_h         UInt16,
    ip               IPv6 COMMENT 'as ip_keep left it; ::: none',
    replay_of        String COMMENT 'name of the rejected hit that this one replays; empty: none',
    spool_id         UInt64,
    spool_seq        UInt64,
    log_partition    UInt32,
    log_offset       UInt64,
    batch_first      UInt64,
    batch_last       UInt64,
    INDEX by_offset log_offset TYPE minmax GRANULARITY 1,
    INDEX by_ts ts TYPE minmax GRANULARITY 1
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (site, visitor_id, ts, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE IF NOT EXISTS session_parts
(
    site             LowCardinality(String),
    visitor_id       UInt64,
    session_id       UInt64,
    session_start    DateTime64(3, 'UTC'),
    first_ts         SimpleAggregateFunction(min, DateTime64(3, 'UTC')),
    last_ts          SimpleAggregateFunction(max, DateTime64(3, 'UTC')),
    events           SimpleAggregateFunction(sum, UInt64),
    engagements      SimpleAggregateFunction(sum, UInt64),
    purchases        SimpleAggregateFunction(sum, UInt64),
    is_bot           SimpleAggregateFunction(max, UInt8),
    channel          SimpleAggregateFunction(any, LowCardinality(String)),
    utm_source       SimpleAggregateFunction(any, LowCardinality(String)),
    utm_medium       SimpleAggregateFunction(any, LowCardinality(String)),
    utm_campaign     SimpleAggregateFunction(any, LowCardinality(String)),
    utm_term         SimpleAggregateFunction(any, String),
    utm_content      SimpleAggregateFunction(any, String),
    click_id         SimpleAggregateFunction(any, String),
    click_id_type    SimpleAggregateFunction(any, LowCardinality(String)),
    country          SimpleAggregateFunction(max, String),
    device           SimpleAggregateFunction(max, String),
    browser          SimpleAggregateFunction(max, String),
    os               SimpleAggregateFunction(max, String),
    entry            AggregateFunction(argMin, Tuple(url_host String, url_path String, ref_host String),
                                       Tuple(DateTime64(3, 'UTC'), UInt32, UInt64)),
    exit             AggregateFunction(argMax, Tuple(url_host String, url_path String),
                                       Tuple(DateTime64(3, 'UTC'), UInt32, UInt64))
)
ENGINE = AggregatingMergeTree
PARTITION BY toYYYYMM(session_start)
ORDER BY (site, session_start, visitor_id, session_id)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE MATERIALIZED VIEW IF NOT EXISTS session_parts_mv TO session_parts AS
SELECT
    site, visitor_id, session_id, session_start,
    min(ts) AS first_ts,
    max(ts) AS last_ts,
    count() AS events,
    countIf(event_name = 'Engagement') AS engagements,
    countIf(event_name = 'Purchase') AS purchases,
    max(events.is_bot) AS is_bot,
    any(events.channel) AS channel,
    any(events.utm_source) AS utm_source,
    any(events.utm_medium) AS utm_medium,
    any(events.utm_campaign) AS utm_campaign,
    any(events.utm_term) AS utm_term,
    any(events.utm_content) AS utm_content,
    any(events.click_id) AS click_id,
    any(events.click_id_type) AS click_id_type,
    max(toString(events.country)) AS country,
    max(toString(events.device)) AS device,
    max(toString(events.browser)) AS browser,
    max(toString(events.os)) AS os,
    argMinState((toString(url_host), url_path, toString(ref_host))::Tuple(url_host String, url_path String, ref_host String),
                (ts, log_partition, log_offset)) AS entry,
    argMaxState((toString(url_host), url_path)::Tuple(url_host String, url_path String),
                (ts, log_partition, log_offset)) AS exit
FROM events
WHERE visitor_id != 0
GROUP BY site, visitor_id, session_id, session_start;

-- One row a session, whatever is merged yet.
CREATE VIEW IF NOT EXISTS sessions AS
SELECT
    site, visitor_id, session_id, session_start,
    min(p.first_ts) AS first_ts,
    max(p.last_ts) AS last_ts,
    (toUnixTimestamp64Milli(last_ts) - toUnixTimestamp64Milli(first_ts)) / 1000 AS duration_s,
    sum(p.events) AS events,
    sum(p.engagements) AS engagements,
    sum(p.purchases) AS purchases,
    toUInt8(events - engagements = 1) AS is_bounce,
    max(p.is_bot) AS is_bot,
    any(p.channel) AS channel,
    any(p.utm_source) AS utm_source,
    any(p.utm_medium) AS utm_medium,
    any(p.utm_campaign) AS utm_campaign,
    any(p.utm_term) AS utm_term,
    any(p.utm_content) AS utm_content,
    any(p.click_id) AS click_id,
    any(p.click_id_type) AS click_id_type,
    max(p.country) AS country,
    max(p.device) AS device,
    max(p.browser) AS browser,
    max(p.os) AS os,
    (argMinMerge(p.entry) AS entry_page).1 AS entry_host,
    entry_page.2 AS entry_path,
    entry_page.3 AS entry_ref_host,
    argMaxMerge(p.exit).2 AS exit_path
FROM session_parts AS p
GROUP BY site, visitor_id, session_id, session_start;

-- One row per batch and spool; with the forwarder's cursors it balances the ledger.
CREATE TABLE IF NOT EXISTS batches
(
    topic            LowCardinality(String),
    log_partition    UInt32,
    batch_first      UInt64,
    batch_last       UInt64,
    spool_id         UInt64,
    seq_min          UInt64,
    seq_max          UInt64,
    inserted         UInt32,
    rejected         UInt32,
    duplicate        UInt32 COMMENT 'client duplicates',
    filtered         UInt32,
    resent           UInt32 COMMENT 'transport duplicates; outside the ledger',
    received_at      DateTime64(3, 'UTC') COMMENT 'the latest of its hits: a repeated insert finds the same table partition',
    loaded_at        DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (log_partition, batch_first, spool_id)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE IF NOT EXISTS rejected
(
    received_at      DateTime64(3, 'UTC'),
    reason           LowCardinality(String),
    detail           String,
    raw              String COMMENT 'the record''s bytes',
    site             LowCardinality(String),
    spool_id         UInt64,
    spool_seq        UInt64,
    topic            LowCardinality(String),
    log_partition    UInt32,
    log_offset       UInt64,
    batch_first      UInt64,
    batch_last       UInt64
)
ENGINE = MergeTree
PARTITION BY toYYYYMM(received_at)
ORDER BY (received_at, log_partition, log_offset)
SETTINGS non_replicated_deduplication_window = 100000;

CREATE TABLE IF NOT EXISTS ad_spend
(
    day              Date,
    site             LowCardinality(String),
    channel          LowCardinality(String),
    utm_source       LowCardinality(String),
    utm_medium       LowCardinality(String),
    utm_campaign     LowCardinality(String),
    cost             Decimal(18, 4),
    currency         LowCardinality(String),
    clicks           UInt64,
    impressions      UInt64,
    imported_at      DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = ReplacingMergeTree(imported_at)
PARTITION BY toYYYYMM(day)
ORDER BY (site, day, channel, utm_source, utm_medium, utm_campaign, currency)
SETTINGS non_replicated_deduplication_window = 100000;
