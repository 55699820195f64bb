package spool

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"gatepost/internal/mail"
)

func FuzzDecodeContent(f *testing.F) {
	c := content{entries: []Entry{testEntry("A"), testEntry("B")}, headers: []int{10, 20}, body: 30}
	f.Add(c.encode(nil))
	c.large = largeRef{name: "A", size: 40, from: 10, sum: 0xffffffff}
	f.Add(c.encode(nil))
	f.Add([]byte{})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Fuzz(func(t *testing.T, meta []byte) {
		c, err := decodeContent(version, meta)
		if err != nil {
			return
		}
		again, err := decodeContent(version, c.encode(nil))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(c) {
			t.Errorf("decoded again: %v, %v; want %v", again, err, c)
		}
	})
}

func FuzzDecodeProgress(f *testing.F) {
	f.Add(encodeProgress(nil, "A", &Progress{State: Hold, Reason: "why", Attempts: 3, Next: time.Unix(1, 2), Warned: true, Age: 5, Recipients: []Recipient{
		{Status: mail.Failed, Reply: mail.Reply{Code: 550, Detail: "1.1", Text: "no"}, Remote: "mx", Attempts: 2, Last: time.Unix(3, 4)}, {},
	}}))
	f.Add(encodeRemoved(nil, "A"))
	f.Add([]byte{1, 'A', 2, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f})
	f.Fuzz(func(t *testing.T, meta []byte) {
		_, _ = decodeRemoved(meta)
		id, p, err := decodeProgress(version, meta)
		if err != nil {
			return
		}
		for _, r := range p.Recipients {
			_ = r.Status.String() // panics on a status that does not exist
		}
		id2, p2, err := decodeProgress(version, encodeProgress(nil, id, &p))
		if err != nil || id2 != id || fmt.Sprint(p2) != fmt.Sprint(p) {
			t.Errorf("decoded again: %v %v %v, want %v %v", id2, p2, err, id, p)
		}
	})
}

// segmentOf makes a segment with a record for each of data.
func segmentOf(data ...[]byte) []byte {
	const salt = 0x0123456789abcdef
	b := make([]byte, block)
	putMark(b, 7, salt)
	for _, d := range data {
		at := int64(len(b))
		fr := frame{kind: kindSaved, meta: len(d) / 2, data: len(d) - len(d)/2}
		fr.metaSum, fr.dataSum = sum(0, d[:len(d)/2]), sum(0, d[len(d)/2:])
		rec := make([]byte, fr.size())
		fr.put(rec, salt, at)
		copy(rec[frameSize:], d)
		putTrailer(rec[len(rec)-trailerSize:], salt)
		b = append(b, rec...)
	}
	return append(b, make([]byte, 100)...)
}

// FuzzScan damages a segment in one place. Records elsewhere must be found.
func FuzzScan(f *testing.F) {
	f.Add(uint16(0), []byte{1})
	f.Add(uint16(block+30), []byte("GATEPOST"))
	f.Add(uint16(block+100), bytes.Repeat([]byte{0xff}, 50))
	f.Add(uint16(2*block), segmentOf([]byte("another record"))[block:])
	f.Fuzz(func(t *testing.T, at uint16, with []byte) {
		var records [][]byte
		for i := range 20 {
			records = append(records, bytes.Repeat([]byte{byte('a' + i)}, 50+i*20))
		}
		seg := segmentOf(records...)
		from := min(int(at), len(seg))
		to := from + copy(seg[from:], with)
		if from < markSize && to > block {
			return // neither the mark nor the first record is left
		}
		var found [][]byte
		_, ok := scanSegment(seg, func(at int64, fr frame, meta, data []byte) error {
			found = append(found, append(bytes.Clone(meta), data...))
			return nil
		})
		if !ok {
			t.Fatal("salt not found")
		}
		place := block
		for _, r := range records {
			end := place + frameSize + len(r)
			hurt := place < to && from < end
			if !hurt && !contains(found, r) {
				t.Errorf("record at %d is lost, though only %d to %d was changed", place, from, to)
			}
			place = end + trailerSize
		}
		if len(found) > len(records) {
			t.Errorf("%d records of %d", len(found), len(records))
		}
	})
}

func contains(list [][]byte, b []byte) bool {
	for _, l := range list {
		if bytes.Equal(l, b) {
			return true
		}
	}
	return false
}

// FuzzReadSegment reads segments of any kind.
func FuzzReadSegment(f *testing.F) {
	f.Add(segmentOf([]byte("x")))
	f.Add([]byte(markMagic))
	f.Fuzz(func(t *testing.T, seg []byte) {
		end := int64(block)
		_, _ = scanSegment(seg, func(at int64, fr frame, meta, data []byte) error {
			if at < end || at+fr.size()-trailerSize > int64(len(seg)) {
				t.Errorf("record at %d of %d bytes, before %d", at, fr.size(), end)
			}
			end = at + fr.size()
			return nil
		})
	})
}
