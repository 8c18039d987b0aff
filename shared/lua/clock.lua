-- The log's clock, shared by every script (included, never run by itself).
--
-- A position is text "<ms>-<seq>". The clock is the highest position ever given out, over all topics. `born` is
-- where the log's memory begins: a cursor below it may have missed events, whatever the topics hold.

local function parse(text)
  local ms, seq = string.match(text, '^(%d+)-(%d+)$')
  if not ms then error('TIDEMARK malformed position ' .. text) end
  return {tonumber(ms), tonumber(seq)}
end

local function text_of(position)
  return string.format('%.0f-%.0f', position[1], position[2])
end

local function below(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end

local function highest(a, b)
  if below(a, b) then return b end
  return a
end

local function next_of(position)
  return {position[1], position[2] + 1}
end

-- The server's time in milliseconds; a test may inject one.
local function now_ms(injected)
  if injected ~= '' then return tonumber(injected) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Bring clock and born into being, and fence: `seen` is the highest position that the caller knows this log gave
-- out. A clock below it has forgotten events (a failover, a restored copy), so every older cursor must be told.
-- `clock` and `born` are what the keys hold (false when absent). Returns both as positions.
local function wind(clock_key, clock, born_key, born, seen, time_ms)
  local known = clock and parse(clock) or {0, 0}
  seen = parse(seen)
  if clock and born and not below(known, seen) then
    return known, parse(born)
  end
  local behind = not clock or below(known, seen)
  if behind then known = highest(highest({time_ms, 0}, seen), known) end
  -- The clock comes last: once it is wound, nobody fences any more.
  redis.call('SET', born_key, text_of(known))
  if behind then redis.call('SET', clock_key, text_of(known)) end
  return known, known
end
