-- Park what can never be read, newest first.
--
-- KEYS  1 parked (list)
-- ARGV  1 the parked push as JSON   2 how many are kept   3 seconds kept
-- Returns how many are parked

local parked = redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[2]) - 1)
redis.call('EXPIRE', KEYS[1], tonumber(ARGV[3]))
return math.min(parked, tonumber(ARGV[2]))
