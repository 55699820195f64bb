package milter

import (
	"fmt"
	"slices"

	"gatepost/internal/mail"
	"gatepost/milter/wire"

	"github.com/emersion/go-milter"
)

// wantedActions are the changes that a verdict may ask the MTA to make.
const wantedActions = milter.OptAddHeader | milter.OptChangeHeader | milter.OptChangeBody | milter.OptAddRcpt | milter.OptRemoveRcpt |
	milter.OptQuarantine | milter.OptChangeFrom | milter.OptAddRcptWithArgs | milter.OptSetSymList

// alwaysOff are the events that nobody here looks at, and the answers that we
// never give: content is judged at its end.
const alwaysOff = milter.OptNoData | milter.OptNoDataReply |
	milter.OptNoHeaderReply | milter.OptNoEOHReply | milter.OptNoBodyReply | milter.OptHeaderLeadingSpace

// noReply is the bit that saves the answer at a stage where nobody decides.
var noReply = map[mail.Stage]milter.OptProtocol{
	mail.StageConnect: milter.OptNoConnReply,
	mail.StageHelo:    milter.OptNoHeloReply,
	mail.StageMail:    milter.OptNoMailReply,
	mail.StageRcpt:    milter.OptNoRcptReply,
}

// wantedMacros are those that become facts of the session or join our log to
// the MTA's. sendmail takes the list of EOM only when EOH has one too.
func wantedMacros() map[milter.Stage][]string {
	return map[milter.Stage][]string{
		milter.StageConnect:  {"j", "v", "_", "{daemon_name}", "{client_resolve}", "{client_ptr}"},
		milter.StageHelo:     {"{tls_version}", "{cipher}", "{cert_subject}", "{verify}"},
		milter.StageMailFrom: {"i", "{auth_authen}", "{auth_type}"},
		milter.StageRcptTo:   {"i"},
		milter.StageData:     {"i"},
		milter.StageEOH:      {"i"},
		milter.StageEOM:      {"i"},
	}
}

// negotiate answers the MTA's offer: its version at most, and of its actions
// and protocol bits only those that it offered (both MTAs take more for an
// error). declined are events beside those that nobody wants ever.
func negotiate(offer wire.Negotiation, decides []mail.Stage, declined milter.OptProtocol) (wire.Negotiation, error) {
	if offer.Version < wire.MinVersion {
		return wire.Negotiation{}, fmt.Errorf("the MTA speaks version %d of the milter protocol; at least %d is needed", offer.Version, wire.MinVersion)
	}
	want := alwaysOff | declined
	for stage, bit := range noReply {
		if !slices.Contains(decides, stage) {
			want |= bit
		}
	}
	answer := wire.Negotiation{
		Version:  min(offer.Version, wire.MaxVersion),
		Actions:  offer.Actions & wantedActions,
		Protocol: offer.Protocol & want,
	}
	if answer.Actions&milter.OptSetSymList != 0 {
		answer.Macros = wantedMacros()
		if slices.Contains(decides, mail.StageHelo) {
			// None of our own filters has an opinion there: other milters stand
			// behind us, and want what an MTA usually tells them.
			addUsual(answer.Macros)
		}
	}
	return answer, nil
}
