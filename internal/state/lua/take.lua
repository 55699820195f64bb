-- KEYS: the rate. ARGV: limit, period, n. The value is when all can be had again.
local limit, period, n = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local full = now
local v = redis.call('GET', KEYS[1])
if v then
	if not string.match(v, '^%d+%.%d+$') then return foreign(KEYS[1]) end
	full = math.min(math.max(tonumber(v), now), now + period)
end
local after = full + n * (period / limit)
local wait = after - now - period
if wait > 1 then return math.ceil(wait) end
if n > 0 then
	redis.call('SET', KEYS[1], string.format('%.2f', after), 'PX', ms(after - now + 1000))
end
return 0
