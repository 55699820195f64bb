-- KEYS: the triple, its network. ARGV: delay, window, keep, auto. Pass, known,
-- auto, wait. The values are first, passed, ends; and count, ends.
local delay, window, keep, auto = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local function meet(first, passed, ttl)
	redis.call('SET', KEYS[1], int(first) .. ' ' .. passed .. ' ' .. int(now + ttl), 'PX', ms(ttl))
end
local function network(count)
	redis.call('SET', KEYS[2], int(count) .. ' ' .. int(now + keep), 'PX', ms(keep))
end

local count = 0
if auto > 0 then
	local v = redis.call('GET', KEYS[2])
	if v then
		local c, ends = string.match(v, '^(%d+) (%d+)$')
		if not c then return foreign(KEYS[2]) end
		if tonumber(ends) > now then count = tonumber(c) end
	end
	if count >= auto then
		network(count)
		return {1, 1, 1, 0}
	end
end

local first, passed, ends = nil, nil, nil
local v = redis.call('GET', KEYS[1])
if v then
	first, passed, ends = string.match(v, '^(%d+) ([01]) (%d+)$')
	if not first then return foreign(KEYS[1]) end
	first, ends = tonumber(first), tonumber(ends)
end
if not first or ends <= now or first > now then
	first = now
	meet(first, '0', window)
elseif passed == '1' then
	meet(first, '1', keep)
	return {1, 1, 0, 0}
end
if first + delay > now then return {0, 0, 0, first + delay - now} end
meet(first, '1', keep)
if auto > 0 then network(count + 1) end
return {1, 0, 0, 0}
