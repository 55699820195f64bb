-- KEYS: the indexes of a set, then entries. ARGV: their keys. How many there were.
local n = 0
for i, key in ipairs(ARGV) do
	local v = redis.call('GET', KEYS[i + 2])
	if v then
		local ends = string.match(v, '^(%d+) ')
		if not ends then return foreign(KEYS[i + 2]) end
		if tonumber(ends) > now then n = n + 1 end
		redis.call('DEL', KEYS[i + 2])
	end
	redis.call('ZREM', KEYS[1], key)
	redis.call('ZREM', KEYS[2], key)
end
return n
