SELECT
  timestamp,
  MAX(`${count}`) AS `${count}`,
  MAX(window_end) AS window_end,
  LOGICAL_OR(is_final) AS is_final,
  MIN(IF(is_final, written_at, NULL)) AS finalized_at,
  MIN(IF(is_greatest, written_at, NULL)) AS updated_at
FROM (
  SELECT timestamp, `${count}`, window_end, is_final, written_at,
    `${count}` = MAX(`${count}`) OVER (PARTITION BY timestamp) AS is_greatest
  FROM `${source}`)
GROUP BY timestamp
