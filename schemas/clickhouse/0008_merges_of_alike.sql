-- The engine takes a small part for one of 5 MiB when it weighs what to merge. With its base of 5 (a merge is to be so many
-- times its largest part) 16 batches' parts were then worth it to write all rows of the last hour again with them. From a base
-- of 20 on such a merge leaves the large parts out. It begins at 17 parts of one size, so 0007's bound, which also kept old
-- parts from being merged by their age, is not needed any more.
ALTER TABLE events MODIFY SETTING merge_selector_base = 20;
ALTER TABLE session_parts MODIFY SETTING merge_selector_base = 20;
ALTER TABLE batches MODIFY SETTING merge_selector_base = 20;
ALTER TABLE rejected MODIFY SETTING merge_selector_base = 20;
ALTER TABLE events RESET SETTING min_parts_to_merge_at_once;
ALTER TABLE session_parts RESET SETTING min_parts_to_merge_at_once;
ALTER TABLE batches RESET SETTING min_parts_to_merge_at_once;
ALTER TABLE rejected RESET SETTING min_parts_to_merge_at_once;
