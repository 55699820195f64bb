-- KEYS: the indexes of a set. ARGV: from, to, limit, what entries begin with,
-- how many to look at. Where to go on ('' at the end), then key, value and rest
-- of life of each.
local limit, looks = tonumber(ARGV[3]), tonumber(ARGV[5])
local keys = redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], ARGV[2], 'LIMIT', 0, looks)
local answer = {''}
for i, key in ipairs(keys) do
	local v = redis.call('GET', ARGV[4] .. key)
	local ends, value = nil, nil
	if v then
		ends, value = string.match(v, '^(%d+) (.*)$')
		if not ends then return foreign(ARGV[4] .. key) end
	end
	if ends and tonumber(ends) > now then
		table.insert(answer, key)
		table.insert(answer, value)
		table.insert(answer, tonumber(ends) - now)
	else
		redis.call('ZREM', KEYS[1], key)
		redis.call('ZREM', KEYS[2], key)
	end
	if #answer > limit * 3 then return answer end
	if i == looks then answer[1] = '(' .. key end
end
return answer
