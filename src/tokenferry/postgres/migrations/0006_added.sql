-- An account may get the name of one that was removed. The higher number is the later one, whatever its generation, so
-- that no host takes it for an older document and puts the removed one forward.
ALTER TABLE accounts ADD COLUMN added bigint NOT NULL DEFAULT 0;
