-- KEYS: the place. ARGV: id, limit, ttl. How many are there, and whether id is.
local limit, ttl = tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', int(now))
local n = redis.call('ZCARD', KEYS[1])
if n >= limit and not redis.call('ZSCORE', KEYS[1], ARGV[1]) then return {n, 0} end
redis.call('ZADD', KEYS[1], int(now + ttl), ARGV[1])
outlive(KEYS[1], ttl)
return {redis.call('ZCARD', KEYS[1]), 1}
