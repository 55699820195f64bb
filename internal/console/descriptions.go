package console

import (
	"gatepost/internal/console/audit"
	"gatepost/internal/history"
	"gatepost/internal/state"
)

// description is what the documentation says of a route beside its pattern.
type description struct {
	does    string
	in, out any    // values of the types that it takes and answers
	lines   bool   // the answer is a line of JSON for each
	raw     string // the answer is no JSON, but of this type
}

// descriptions are of all routes: a route that is not here fails TestOpenAPI.
func descriptions() map[string]description {
	type nothing struct{}
	type hits struct {
		Hits []RuleHit `json:"hits"`
	}
	return map[string]description{
		"GET /v1/openapi.json": {does: "This description", out: map[string]any{}},
		"GET /v1/status":       {does: "How the gateway is", out: Status{}},
		"POST /v1/reload":      {does: "Read the configuration again", out: nothing{}},

		"GET /v1/health":   {does: "How filters, next hops, lists, certificates and lanes are, and how fast", out: Health{}},
		"GET /v1/settings": {does: "The configuration in use, without its secrets", out: settings{}},
		"GET /v1/users":    {does: "Who may log in to the console", out: userList{}},

		"POST /v1/audit/search": {does: "Who did what, the newest first", in: audit.Query{}, out: AuditPage{}},

		"GET /v1/queue":              {does: "All messages of the queue", out: Message{}, lines: true},
		"POST /v1/queue/list":        {does: "Messages of the queue that a filter chooses", in: Filter{}, out: Message{}, lines: true},
		"POST /v1/queue/shape":       {does: "How old the mail of each domain is", in: ShapeRequest{}, out: Shape{}},
		"GET /v1/queue/{id}":         {does: "One message of the queue", out: Message{}},
		"GET /v1/queue/{id}/content": {does: "A message of the queue, byte for byte", raw: "message/rfc822"},
		"POST /v1/queue/{action}":    {does: "Act on messages of the queue; in a dry run a line for each that would be acted on", in: Request{}, out: actionLine{}, lines: true},

		"POST /v1/history/search": {does: "A page of what was recorded", in: history.Query{}, out: history.Page{}},
		"POST /v1/history/each":   {does: "All that was recorded; the last line has neither record nor error", in: history.Query{}, out: eachLine{}, lines: true},
		"POST /v1/history/report": {does: "Sums of a time", in: reportRequest{}, out: history.Report{}},
		"GET /v1/history/{id}":    {does: "All that is known of one message", out: history.Life{}},

		"POST /v1/state/list":   {does: "Entries of windows, lists and rates", in: stateRequest{}, out: state.Entry{}, lines: true},
		"POST /v1/state/get":    {does: "One entry", in: stateRequest{}, out: state.Entry{}},
		"POST /v1/state/put":    {does: "Set an entry", in: stateRequest{}, out: nothing{}},
		"POST /v1/state/delete": {does: "Remove entries", in: stateRequest{}, out: deleted{}},

		"GET /v1/rules/hits":        {does: "How often each rule matched", out: hits{}},
		"POST /v1/rules/apply":      {does: "Put other rules in use, or read those of the configuration again", in: RuleChange{}, out: RuleChanged{}},
		"POST /v1/rules/rollback":   {does: "Go back to a generation of the rules", in: RuleChange{}, out: RuleChanged{}},
		"POST /v1/rules/rehearse":   {does: "What other rules would have made of recorded mail", in: Rehearsal{}, out: map[string]any{}},
		"GET /v1/rules/log":         {does: "Who changed the rules, the newest first", out: map[string]any{}},
		"GET /v1/rules/generations": {does: "Rules that can be gone back to, the newest first", out: map[string]any{}},
		"POST /v1/lists/change":     {does: "Add entries to a managed list, or take some from it", in: ListChange{}, out: ListChanged{}},
		"GET /v1/lists/{name}":      {does: "A managed list", out: ManagedList{}},

		"POST /v1/live": {does: "What happens now, until the client goes", in: LiveFilter{}, out: Live{}, lines: true},

		"POST /v1/quarantine/list":    {does: "Held messages that a filter chooses", in: Filter{}, out: Message{}, lines: true},
		"POST /v1/quarantine/release": {does: "Deliver held messages to recipients that they are held for", in: HeldRequest{}, out: Result{}},
		"POST /v1/quarantine/delete":  {does: "Take recipients off held messages; nobody is told", in: HeldRequest{}, out: Result{}},
		"POST /v1/quarantine/learn":   {does: "Teach the spam filters what held messages are", in: HeldRequest{}, out: Result{}},
		"POST /v1/quarantine/allow":   {does: "Allow the senders of held messages for their recipients", in: HeldRequest{}, out: Result{}},
		"POST /v1/quarantine/block":   {does: "Block the senders of held messages for their recipients", in: HeldRequest{}, out: Result{}},

		"POST /v1/digest/preview": {does: "The digest that a recipient would get now", in: digestRequest{}, out: DigestMail{}},
		"POST /v1/digest/send":    {does: "Send digests with what is new at once", in: struct{}{}, out: digestsSent{}},

		"POST /v1/scan": {does: "Judge a message that is not there to stay", in: ScanRequest{}, out: history.Record{}},
	}
}
