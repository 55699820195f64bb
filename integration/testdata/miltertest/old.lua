-- An MTA of the second version of the protocol, which knows no flags, no DATA,
-- no quarantine: it gets what there was then.
local function want(what, ok) if not ok then mt.echo("not as wanted: " .. what) error(what) end end
local c = mt.connect(socket)
want("connect", c ~= nil)
want("negotiate", mt.negotiate(c, 2, 0x3f, 0x7f) == nil)
want("conninfo", mt.conninfo(c, "client.example", "192.0.2.25") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("helo", mt.helo(c, "client.example") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("mail", mt.mailfrom(c, "<s@sender.test>") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("rcpt", mt.rcptto(c, "<u@example.com>") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("header", mt.header(c, "From", "s@sender.test") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("eoh", mt.eoh(c) == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("body", mt.bodystring(c, "text\r\n") == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("eom", mt.eom(c) == nil and mt.getreply(c) == SMFIR_CONTINUE)
want("our ID", mt.eom_check(c, MT_HDRINSERT, "X-Gatepost-ID"))
mt.disconnect(c)
