SELECT `ip`, `user_id`, `user_agent`, `lat`, `lng`, `event_timestamp`, `processing_timestamp`, `http_request`, `http_response`, `num_bytes`, `event_id`, `message_id`, `publish_time`, `window_start`, `is_late`
FROM `${source}`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (
  PARTITION BY window_start, event_id
  ORDER BY is_late, message_id, publish_time, processing_timestamp) = 1
