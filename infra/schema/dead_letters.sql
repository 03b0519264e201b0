SELECT `received_at`, `message_id`, `publish_time`, `subscription`, `attributes`, `data`, `part`, `parts`, `reason`, `error`
FROM `${source}`
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY message_id, part ORDER BY received_at) = 1
