-- KEYS: the counter. ARGV: n, window. The value is start, now, before of a tally.
local n, window = tonumber(ARGV[1]), tonumber(ARGV[2])
local start, current, before = 0, 0, 0
local v = redis.call('GET', KEYS[1])
if v then
	start, current, before = string.match(v, '^(%d+) (%d+) (%d+)$')
	if not start then return foreign(KEYS[1]) end
	start, current, before = tonumber(start), tonumber(current), tonumber(before)
end
local passed = now - start
if passed < 0 or passed >= 2 * window then
	start, current, before = now, 0, 0
elseif passed >= window then
	start, before = start + window, current
	current = 0
end
current = current + n
if n > 0 then
	redis.call('SET', KEYS[1], int(start) .. ' ' .. int(current) .. ' ' .. int(before), 'PX', ms(start + 2 * window - now))
end
return current + math.floor(before * ((window - (now - start)) / window))
