-- KEYS: entries. The first that is there: its number, value and rest of life.
for i, key in ipairs(KEYS) do
	local v = redis.call('GET', key)
	if v then
		local ends, value = string.match(v, '^(%d+) (.*)$')
		if not ends then return foreign(key) end
		if tonumber(ends) > now then return {i, value, tonumber(ends) - now} end
	end
end
return {0, '', 0}
