-- What the last answers said of each account's limits.
CREATE TABLE limits (account text COLLATE "C" PRIMARY KEY, state text NOT NULL, noted_at bigint NOT NULL);
INSERT INTO revisions (name) VALUES ('limits');
CREATE TRIGGER revised AFTER INSERT OR UPDATE OR DELETE ON limits
    FOR EACH STATEMENT EXECUTE FUNCTION raise_revision('limits');
