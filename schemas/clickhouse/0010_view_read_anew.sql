-- 0009 changed the query of `session_parts_mv`. From then on, until it restarts, the engine (measured with 26.9) names the
-- view's blocks otherwise than after a restart: a batch that is repeated across the restart was counted twice in
-- `session_parts`. A view that gets a name is made anew in memory, and no insert misses it meanwhile. Each later MODIFY QUERY
-- has to be followed by these two statements.
RENAME TABLE IF EXISTS session_parts_mv TO session_parts_mv_read_anew;
RENAME TABLE IF EXISTS session_parts_mv_read_anew TO session_parts_mv;
