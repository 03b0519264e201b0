-- The lab's lag query, for SQLite: of the newest 1,000 events, when each happened and when it was processed, in
-- milliseconds since the first of them. Run it with the database attached as logs:
--   sqlite3 -box -cmd "ATTACH 'data/warehouse.db' AS logs" :memory: < docs/lag.sql
WITH newest AS (
  SELECT user_id, event_timestamp, processing_timestamp FROM logs.events ORDER BY event_timestamp DESC LIMIT 1000),
millis AS (
  SELECT user_id,
    unixepoch(event_timestamp) * 1000 + substr(event_timestamp, 21, 3) AS event,
    unixepoch(processing_timestamp) * 1000 + substr(processing_timestamp, 21, 3) AS processing
  FROM newest)
SELECT
  event - min(event) OVER () AS event_millis,
  processing - min(event) OVER () AS processing_millis,
  user_id,
  CAST(event - min(event) OVER () AS TEXT) AS label
FROM millis
ORDER BY event_millis;
