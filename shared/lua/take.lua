-- Take a slot for a stream of a user, and take others away where that is needed.
--
-- KEYS  1 slots of the user (hash)   2 taken away (sorted set of the stage: "<connection> <reason>" -> ms)   3 revoked
-- ARGV  1 time in ms, '' for the server's    2 connection   3 client   4 first topic   5 ms until the slot expires
--       6 '1' if the stream wants acks, else '0'   7 slots at most   8 policy: 'evict_oldest' or 'reject'
--       9 clock   10 when it was asked for, ms by that clock
--       11 what live channels begin with   12 user (hash)   13 moment in ms at which the token was issued
--       14 ms that what was taken away is kept   15 how many of those are kept
-- Returns {'taken', time in ms, {connection, reason, ...} of those taken away}
--       or {'full', time in ms, when the first of the slots expires in ms, {client, ...}}: it changes nothing
--       or {'overtaken', time in ms}: a later stream of the same client holds a slot; it changes nothing
--       or {'revoked', time in ms}: the token was; it changes nothing
--
-- A stream of the same client gives way, whatever the policy and the count. It may be run twice: a slot that its
-- connection holds already stays where it is.
--
-- Six billed commands, seven if others have expired. If any slot is taken away: twelve, and one for each.
-- Lua does not roll back: what is to be found by a reconcile is written first, and the feed is told last.

--@include clock.lua
--@include slot.lua

-- How far two clocks may be apart before a stream is held to be older than its successor.
local CLOCKS_MS = 1000

local time_ms = now_ms(ARGV[1])
local connection, client, most = ARGV[2], ARGV[3], tonumber(ARGV[7])
local clock, asked = ARGV[9], tonumber(ARGV[10])

local revoked_at = redis.call('ZSCORE', KEYS[3], ARGV[12])
if revoked_at and tonumber(ARGV[13]) <= tonumber(revoked_at) then
  return {'revoked', time_ms}
end

-- Whether this stream was asked for before one that has its slot already.
local function late(slot)
  if slot.clock == clock then return slot.asked > asked end
  -- Nothing was asked for after it was opened: a clock that says so ran ahead, for which no client is to be refused.
  return math.min(slot.asked, slot.opened) > asked + CLOCKS_MS
end

local held, gone = slots_in(redis.call('HGETALL', KEYS[1]), time_ms)
local mine
local others, taken, kept = {}, {}, {}
local opened = time_ms
for _, slot in ipairs(held) do
  opened = math.max(opened, slot.opened + 1)
  if slot.connection == connection then
    mine = slot
  elseif slot.client ~= client then
    others[#others + 1] = slot
  elseif late(slot) then
    -- This one came late: its client has given it up and opened another, which must not end for it.
    return {'overtaken', time_ms}
  else
    taken[#taken + 1] = {slot, 'superseded'}
  end
end

local over = math.max(0, #others + 1 - most)
if over > 0 and ARGV[8] == 'reject' then
  if not mine and #taken == 0 then
    local clients, first = {}, others[1].expires
    for n, slot in ipairs(others) do
      clients[n] = slot.client
      first = math.min(first, slot.expires)
    end
    return {'full', time_ms, first, clients}
  end
  over = 0
end
for n, slot in ipairs(others) do
  if n <= over then
    taken[#taken + 1] = {slot, 'evicted'}
  else
    kept[#kept + 1] = slot
  end
end

if #taken > 0 then
  -- Moments rise strictly, also when the server's clock jumps back: see revoke.lua.
  local newest = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES')[2]
  local moment = math.max(time_ms, newest and tonumber(newest) + 1 or 0)
  local entries = {}
  for n, of in ipairs(taken) do
    entries[2 * n - 1] = string.format('%.0f', moment + n - 1)
    entries[2 * n] = of[1].connection .. ' ' .. of[2]
    gone[#gone + 1] = of[1].connection
  end
  local keep_ms = tonumber(ARGV[14])
  redis.call('ZADD', KEYS[2], unpack(entries))
  redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('(%.0f', moment - keep_ms))
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -tonumber(ARGV[15]) - 1)
  redis.call('PEXPIRE', KEYS[2], keep_ms)
end
if #gone > 0 then redis.call('HDEL', KEYS[1], unpack(gone)) end

local slot = {
  opened = mine and mine.opened or opened, expires = time_ms + tonumber(ARGV[5]), asked = asked, clock = clock,
  acks = ARGV[6], client = client, topic = ARGV[4],
}
redis.call('HSET', KEYS[1], connection, text_of_slot(slot))
local last = slot.expires
for _, other in ipairs(kept) do last = math.max(last, other.expires) end
redis.call('PEXPIRE', KEYS[1], string.format('%.0f', last - time_ms))

local told = {}
for _, of in ipairs(taken) do
  told[#told + 1] = of[1].connection
  told[#told + 1] = of[2]
  redis.call('PUBLISH', ARGV[11] .. of[1].topic, '!end ' .. of[1].connection .. ' ' .. of[2])
end
return {'taken', time_ms, told}
