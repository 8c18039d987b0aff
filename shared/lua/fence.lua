-- Fence the log: the caller holds proof that an event at `lost`, which it has seen, is no longer in the log.
--
-- KEYS  1 clock   2 born
-- ARGV  1 highest position the caller has seen   2 time in ms, '' for the server's   3 lost
-- Returns {clock, born}
--
-- A log whose memory already begins at or above `lost` has told everyone; a second proof changes nothing.
-- The clock is wound on: readers that were brought up to it while nobody had noticed yet stand below `born` as well.

--@include clock.lua

local held = redis.call('MGET', KEYS[1], KEYS[2])
local clock, born = wind(KEYS[1], held[1], KEYS[2], held[2], ARGV[1], now_ms(ARGV[2]))
if below(born, parse(ARGV[3])) then
  clock = next_of(clock)
  born = clock
  redis.call('SET', KEYS[2], text_of(born))
  redis.call('SET', KEYS[1], text_of(clock))
end
return {text_of(clock), text_of(born)}
