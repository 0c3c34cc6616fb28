-- Ends of epochs: boundary block and a Final certificate of it (E5), before the first vote of the next epoch (P10). Some
-- builds made this table in the first script.
CREATE TABLE IF NOT EXISTS seals (
    epoch  INTEGER PRIMARY KEY NOT NULL,
    height INTEGER NOT NULL,
    digest TEXT NOT NULL,
    seal   BLOB NOT NULL
);
UPDATE meta SET value = '2' WHERE name = 'schema';
