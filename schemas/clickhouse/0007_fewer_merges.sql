-- A batch is a small part in each of these tables, and the engine, left alone, merges three or four of them as soon as
-- they are there, so that a new row is written again and again. From 16 on a merge of 50 columns is worth its cost.
ALTER TABLE events MODIFY SETTING min_parts_to_merge_at_once = 16;
ALTER TABLE session_parts MODIFY SETTING min_parts_to_merge_at_once = 16;
ALTER TABLE batches MODIFY SETTING min_parts_to_merge_at_once = 16;
ALTER TABLE rejected MODIFY SETTING min_parts_to_merge_at_once = 16;
