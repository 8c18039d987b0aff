-- Read what several topics hold after a cursor each, and what may have been lost before it.
--
-- KEYS  1 clock   2 born   3 revoked   then two a topic: log, last
-- ARGV  1 highest position the caller has seen   2 time in ms, '' for the server's
--       3 entries at most   4 bytes at most   5 seconds after which every cursor is too old
--       6 number of users that are asked about   then their hashes
--       then two a topic: cursor (position, 'earliest' or 'now'), born already told for it ('0-0' for none)
-- Returns {clock, born, {topic, ...}, {moment in ms of each user's revocation, or ''}}
--       where each topic is
--       '' if nothing stands after its cursor and nothing is lost: of most topics, most of the time; or else
--       {start, after, resume, '1' if more entries follow else '0', {position, format, prev, envelope}, ...}
--       where after and resume are '' unless events between them may be lost.
--
-- It runs on the primary and writes only what makes a log out of nothing (clock and born) and the fence.

--@include clock.lua

local EARLIEST, NOW = 'earliest', 'now'
local topics = (#KEYS - 3) / 2
local users = tonumber(ARGV[6])
local keys = {KEYS[1], KEYS[2]}
for t = 1, topics do keys[t + 2] = KEYS[2 * t + 3] end
local held = redis.call('MGET', unpack(keys))
local time_ms = now_ms(ARGV[2])
local clock, born = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], time_ms)
local too_old = {time_ms - tonumber(ARGV[5]) * 1000, 0}

-- Which topics can hold anything after their cursor decides how the budget is shared.
local plans, busy = {}, 0
for t = 1, topics do
  local word, told = ARGV[users + 2 * t + 5], parse(ARGV[users + 2 * t + 6])
  local plan = {log = KEYS[2 * t + 2], last = held[t + 2] and parse(held[t + 2]), told = told}
  if word == NOW then
    plan.from = nil
  elseif word == EARLIEST then
    plan.earliest = true
    plan.from = {0, 0}
  else
    plan.cursor = parse(word)
    plan.future = below(clock, plan.cursor)
    plan.from = plan.future and {0, 0} or plan.cursor
    -- At the clock nothing can be missing, however long ago that was.
    plan.lost = plan.future or (below(plan.cursor, too_old) and below(plan.cursor, clock))
      or (below(plan.cursor, born) and below(told, born))
  end
  -- Without `last` only the log itself can say whether it is empty.
  plan.read = plan.from and (not plan.last or below(plan.from, plan.last))
  if plan.read then busy = busy + 1 end
  plans[t] = plan
end

local most = math.max(1, math.floor(tonumber(ARGV[3]) / math.max(1, busy)))
local most_bytes = tonumber(ARGV[4]) / math.max(1, busy)

-- A later format may lack any of these fields: its reader says what it cannot read.
local function of(entry)
  local fields = {}
  for i = 1, #entry[2], 2 do fields[entry[2][i]] = entry[2][i + 1] end
  return {entry[1], fields.f or '', string.match(fields.p or '', '^%d+%-%d+$') or '0-0', fields.e or ''}
end

local function answer_of(plan)
  local found, more, bytes = {}, '0', 0
  if plan.read then
    local entries = redis.call('XRANGE', plan.log, '(' .. text_of(plan.from), '+', 'COUNT', most + 1)
    for n, entry in ipairs(entries) do
      if n > most or bytes > most_bytes then
        more = '1'
        break
      end
      found[n] = of(entry)
      bytes = bytes + #found[n][4]
    end
  end

  local start, after, resume = plan.cursor, '', ''
  if not plan.from then
    start = clock
  elseif found[1] then
    -- What stands before the first entry held is the horizon, unless the log's memory began later.
    local first, prev = parse(found[1][1]), parse(found[1][3])
    if plan.earliest then
      start = below(born, first) and highest(prev, born) or prev
    elseif plan.lost or below(highest(plan.from, plan.told), prev) then
      after = plan.cursor
      resume = plan.lost and highest(prev, born) or prev
      if not plan.future then resume = highest(resume, plan.cursor) end
    end
  elseif plan.earliest then
    start = clock
  else
    local last = plan.last or {0, 0}
    if plan.lost or below(highest(plan.from, plan.told), last) then
      after = plan.cursor
      resume = highest(last, born)
      if not plan.future then resume = highest(resume, plan.cursor) end
    end
  end
  -- A client that leaves before the gap was told must be told again: nothing lies below 0-0.
  if plan.future then start = {0, 0} end

  local said = {text_of(start), after ~= '' and text_of(after) or '', resume ~= '' and text_of(resume) or '', more}
  for n = 1, #found do said[n + 4] = found[n] end
  return said
end

local answer = {}
for t = 1, topics do
  local plan = plans[t]
  local quiet = plan.cursor and plan.last and not plan.read and not plan.lost
  answer[t] = quiet and '' or answer_of(plan)
end

local revoked_at = {}
for u = 1, users do revoked_at[u] = redis.call('ZSCORE', KEYS[3], ARGV[6 + u]) or '' end
return {text_of(clock), text_of(born), answer, revoked_at}
