package wire

import (
	"encoding/binary"
	"strings"

	"github.com/emersion/go-milter"
)

// Versions of the protocol.
const (
	MinVersion = 2
	MaxVersion = 6
)

// Bits that go-milter has no names for.
const (
	OptMDS256K milter.OptProtocol = 0x10000000 // SMFIP_MDS_256K
	OptMDS1M   milter.OptProtocol = 0x20000000 // SMFIP_MDS_1M

	// Everything that version 6 knows: what sendmail and Postfix offer.
	AllActions  milter.OptAction   = 0x1ff
	AllProtocol milter.OptProtocol = 0x1fffff
)

const (
	maxStages = 16   // lists of macros in one packet; the protocol knows 7 stages
	maxMacros = 4096 // octets of one list
)

// Negotiation is SMFIC_OPTNEG, in both directions.
type Negotiation struct {
	Version  uint32
	Actions  milter.OptAction
	Protocol milter.OptProtocol
	Macros   map[milter.Stage][]string // only from a filter: what it wants at each stage
}

// Append adds n's packet to b.
func (n Negotiation) Append(b []byte) []byte {
	data := binary.BigEndian.AppendUint32(nil, n.Version)
	data = binary.BigEndian.AppendUint32(data, uint32(n.Actions))
	data = binary.BigEndian.AppendUint32(data, uint32(n.Protocol))
	for stage := milter.StageConnect; stage <= milter.StageEOH; stage++ {
		if list, ok := n.Macros[stage]; ok {
			data = binary.BigEndian.AppendUint32(data, uint32(stage))
			data = append(data, strings.Join(list, " ")...)
			data = append(data, 0)
		}
	}
	return Append(b, byte(milter.CodeOptNeg), data)
}

// DecodeNegotiation reads the data of SMFIC_OPTNEG. A list for a stage that
// nobody knows is passed over, as Postfix does.
func DecodeNegotiation(data []byte) (Negotiation, error) {
	if len(data) < 12 {
		return Negotiation{}, malformed("negotiation of %d bytes", len(data))
	}
	n := Negotiation{
		Version:  binary.BigEndian.Uint32(data),
		Actions:  milter.OptAction(binary.BigEndian.Uint32(data[4:])),
		Protocol: milter.OptProtocol(binary.BigEndian.Uint32(data[8:])),
	}
	for rest, i := data[12:], 0; len(rest) > 0; i++ {
		if i == maxStages {
			return n, malformed("more than %d lists of macros", maxStages)
		}
		if len(rest) < 5 {
			return n, malformed("cut list of macros")
		}
		stage := milter.Stage(binary.BigEndian.Uint32(rest))
		list, after, ok := strings.Cut(string(rest[4:]), "\x00")
		if !ok || len(list) > maxMacros {
			return n, malformed("list of macros without its end or too long")
		}
		rest = rest[len(rest)-len(after):]
		if stage > milter.StageEOH {
			continue
		}
		if n.Macros == nil {
			n.Macros = make(map[milter.Stage][]string)
		}
		n.Macros[stage] = strings.FieldsFunc(list, func(r rune) bool { return r == ' ' || r == ',' })
	}
	return n, nil
}
