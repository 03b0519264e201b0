SELECT ${columns}
FROM `${source}`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY window_start, event_id
  ORDER BY is_late, message_id, publish_time, processing_timestamp) = 1
