-- Before each script: the clock is the server's, in microseconds, whatever
-- those of the gateways say.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local function int(n) return string.format('%.0f', n) end
local function ms(n) return int(math.max(1, math.ceil(n / 1000))) end
local function foreign(key) return redis.error_reply('GATEPOST no value of ours: ' .. key) end
-- outlive lets a key stay as long as what was put into it.
local function outlive(key, ttl)
	if redis.call('PTTL', key) < ttl / 1000 then redis.call('PEXPIRE', key, ms(ttl)) end
end
