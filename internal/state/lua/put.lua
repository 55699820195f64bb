-- KEYS: the entry, the index of its set by key, that by end. ARGV: key, value, ttl
local ttl = tonumber(ARGV[3])
redis.call('SET', KEYS[1], int(now + ttl) .. ' ' .. ARGV[2], 'PX', ms(ttl))
for _, key in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', int(now), 'LIMIT', 0, 20)) do
	redis.call('ZREM', KEYS[2], key)
	redis.call('ZREM', KEYS[3], key)
end
redis.call('ZADD', KEYS[2], 0, ARGV[1])
redis.call('ZADD', KEYS[3], int(now + ttl), ARGV[1])
outlive(KEYS[2], ttl)
outlive(KEYS[3], ttl)
return 1
