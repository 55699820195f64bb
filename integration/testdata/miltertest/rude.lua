-- An MTA that goes without a word, in the middle of a message: the next one is
-- served as if nothing had been.
local function want(what, ok) if not ok then mt.echo("not as wanted: " .. what) error(what) end end
for i = 1, 20 do
	local c = mt.connect(socket)
	want("connect", c ~= nil and mt.conninfo(c, "client.example", "192.0.2.25") == nil)
	want("mail", mt.mailfrom(c, "<s@sender.test>") == nil and mt.rcptto(c, "<u@example.com>") == nil)
	want("header", mt.header(c, "From", "s@sender.test") == nil)
	if i % 2 == 0 then
		want("body", mt.eoh(c) == nil and mt.bodyrandom(c, 200000) == nil)
	end
	mt.disconnect(c, false)
end
local c = mt.connect(socket)
want("conninfo", c ~= nil and mt.conninfo(c, "client.example", "192.0.2.25") == nil)
want("unknown command", mt.test_option(c, SMFIP_NOUNKNOWN) or mt.unknown(c, "XYZZY") == nil)
want("envelope", mt.mailfrom(c, "<s@sender.test>") == nil and mt.rcptto(c, "<u@example.com>") == nil)
want("content", mt.header(c, "From", "s@sender.test") == nil and mt.eoh(c) == nil and mt.eom(c) == nil)
want("verdict", mt.getreply(c) == SMFIR_CONTINUE)
mt.disconnect(c)
