package archive

import "errors"

// lzfuStart is the dictionary that compressed RTF begins with, MS-OXRTFCP 2.1.2.1.
const lzfuStart = "{\\rtf1\\ansi\\mac\\deff0\\deftab720{\\fonttbl;}" +
	"{\\f0\\fnil \\froman \\fswiss \\fmodern \\fscript \\fdecor MS Sans SerifSymbolArialTimes New RomanCourier" +
	"{\\colortbl\\red0\\green0\\blue0\r\n\\par \\pard\\plain\\f0\\fs20\\b\\i\\u\\tab\\tx"

var errRTF = errors.New("rtf: cut or garbled")

// unpackRTF unpacks the RTF body of a message. Each two bytes give 17 at most,
// so what comes out is bounded by what goes in.
func unpackRTF(b []byte) ([]byte, error) {
	if len(b) < 16 {
		return nil, errRTF
	}
	switch kind := string(b[8:12]); {
	case kind == "MELA":
		return b[16:], nil
	case kind != "LZFu":
		return nil, errRTF
	}
	var dict [4096]byte
	at := copy(dict[:], lzfuStart)
	var out []byte
	put := func(c byte) {
		out = append(out, c)
		dict[at%len(dict)] = c
		at++
	}
	for b = b[16:]; len(b) > 0; {
		control := b[0]
		b = b[1:]
		for bit := range 8 {
			if control>>bit&1 == 0 {
				if len(b) < 1 {
					return out, errRTF
				}
				put(b[0])
				b = b[1:]
				continue
			}
			if len(b) < 2 {
				return out, errRTF
			}
			from, n := int(b[0])<<4|int(b[1])>>4, int(b[1]&15)+2
			b = b[2:]
			if from == at%len(dict) {
				return out, nil // the end
			}
			for i := range n {
				put(dict[(from+i)%len(dict)])
			}
		}
	}
	return out, errRTF
}
