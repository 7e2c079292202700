-- With which key accounts are sealed ('clear' for none), which one is to follow, and which hosts can open what.
ALTER TABLE fleet ADD COLUMN sealed_with text, ADD COLUMN next_key text;
CREATE TABLE hosts (
    name text COLLATE "C" PRIMARY KEY,
    label text NOT NULL,
    opens text[] NOT NULL,
    seen_at timestamptz NOT NULL
) WITH (fillfactor = 50);
