package history

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// codec packs records: JSON, and behind it the header byte for byte, in one
// zstd frame with a dictionary of what all records have.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
	buf sync.Pool
}

// longestRecord bounds what a damaged file can make us allocate.
const longestRecord = 8 << 20

// dictionaryID is in each frame. A better dictionary needs another ID, and the
// old one to stay.
const dictionaryID = 1

const dictionary = `"signature":"X-Spam-Level: X-Spam-Status: Yes, score= required=5.0 tests=BAYES_00,DKIM_SIGNED,DKIM_VALID,DKIM_VALID_AU,HTML_MESSAGE,RCVD_IN_DNSWL_NONE,SPF_HELO_NONE,SPF_PASS,URIBL_BLOCKED version=4.0.1
"remote":"unknown","args":["BODY=8BITMIME","SIZE=1234"],"omitted":1,"header_cut":true,"again":true,"encrypted":true,"macros":true,"program":true,"protected":true,"archive":"zip","depth":1,"pregreet":true,"window":true,"trusted":true,"user":"","auth_mech":"PLAIN","observe":true,"shadow":true
{"id":"0twv0000001111111111BB","time":"2026-11-21T17:46:50.123456Z","stage":"connect","session":{"id":"","listener":"main","via":"milter","client":"192.0.2.1:25","name":"mail.example.com","ptr":"mail.example.com","resolve":"FAIL","helo":"mail.example.com","esmtp":true,"role":"submission","start":"2026-11-21T17:46:50.123456Z","macros":{"_":"","j":"","i":"","v":"Postfix","{client_addr}":"","{client_name}":"","{daemon_name}":"","{mail_addr}":"","{rcpt_addr}":""}},"sender":{"address":""},"recipients":[{"address":"postmaster@example.com","stage":"rcpt","action":"tempfail","reply":"451 4.7.1 Greylisted, please try again later","reason":"greylisted"}],"action":"reject","reply":"550 5.7.1 ","reason":"","score":5.1,"took":1000000}
,"inside":{"parts":[{"path":"1","declared":"text/plain","detected":"text/plain; charset=utf-8","inline":true,"size":1234,"sha256":"","at":0,"length":100},{"path":"2","names":["invoice.pdf"],"declared":"application/octet-stream","detected":"application/pdf","size":1,"sha256":""},{"path":"1.2","declared":"text/html","detected":"text/html; charset=utf-8"}],"text":"","urls":[{"host":"www.example.com","text":"https://www.example.com/"}],"took":100000}
,"findings":[{"filter":"auth","name":"spf","value":"pass","text":"smtp.mailfrom=example.com"},{"filter":"auth","name":"dkim","value":"pass","text":"header.d=example.com header.s=sel"},{"filter":"auth","name":"dmarc","value":"pass","text":"header.from=example.com policy.published=reject policy.applied=none"},{"filter":"auth","name":"iprev","value":"pass"},{"filter":"clamav","name":"clean"},{"filter":"spamassassin","name":"score","score":1.5},{"filter":"spamassassin","name":"rule","value":"HTML_MESSAGE","text":"0.0"},{"filter":"dnsbl","name":"listed","value":"zen.spamhaus.org"},{"filter":"clamav","name":"virus","value":"Win.Test.EICAR_HDB-1"},{"filter":"clamav","name":"failed","value":"tempfail","text":""}]
,"asked":[{"filter":"clamav","stage":"message","result":"ok","start":1000000,"took":1000000},{"filter":"spamassassin","stage":"message","result":"ok","start":100,"took":100},{"filter":"greylist","stage":"rcpt","result":"ok"}],"rules":[{"rule":"","where":"/etc/gatepost/rules.d/10-local.toml:12","did":"score 3.5"}],"edits":["add X-Spam-Flag: YES","add X-Virus-Scanned: ClamAV using Gatepost","remove Authentication-Results: "]
{"id":"0twv0000001111111111BB","time":"2026-11-21T17:46:50.123456Z","stage":"message","generation":"1","session":{"id":"","listener":"mx","via":"smtp","client":"192.0.2.1:50000","name":"mail.example.com","ptr":"mail.example.com","resolve":"OK","helo":"mail.example.com","esmtp":true,"tls":{"version":"TLSv1.3","cipher":"TLS_AES_128_GCM_SHA256"},"role":"mx","start":"2026-11-21T17:46:50.123456Z"},"sender":{"address":"user@example.com","args":["SIZE=12345","BODY=8BITMIME"]},"recipients":[{"address":"user@example.com","action":"accept"}],"from":"User \u003cuser@example.com\u003e","to":"user@example.com","subject":"Re: ","message_id":"\u003c@example.com\u003e","size":12345,"action":"accept","reply":"250 2.0.0 queued as 0twv","reason":"relay.domains has example.com","score":1.5,"took":100000000}
Received: from mail.example.com (mail.example.com [192.0.2.1])
	by mx1.example.com (Gatepost) with ESMTPS id 0twv
	for <user@example.com>; Sat, 21 Nov 2026 17:46:50 +0000
Return-Path: <user@example.com>
DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=gmail.com; s=20230601; t=17; darn=example.com;
        h=to:subject:message-id:date:from:mime-version:from:to:cc:subject:date:message-id:reply-to; bh=; b=
Authentication-Results: mx1.example.com; dkim=pass header.d=example.com; spf=pass smtp.mailfrom=example.com; dmarc=pass
X-Mailer: Microsoft Outlook 16.0
Thread-Topic: 
Accept-Language: en-US
List-Unsubscribe: <https://www.example.com/unsubscribe>
List-Unsubscribe-Post: List-Unsubscribe=One-Click
In-Reply-To: <
References: <
User-Agent: Mozilla Thunderbird
MIME-Version: 1.0
Content-Type: multipart/alternative; boundary="
Content-Type: text/plain; charset=UTF-8; format=flowed
Content-Transfer-Encoding: quoted-printable
Message-ID: <@mail.gmail.com>
Date: Sat, 21 Nov 2026 17:46:50 +0000
From: User <user@example.com>
To: user@example.com
Subject: Re: `

func newCodec() (*codec, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderDictRaw(dictionaryID, []byte(dictionary)), zstd.WithLowerEncoderMem(true))
	if err != nil {
		return nil, fmt.Errorf("history: zstd: %w", err)
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderDictRaw(dictionaryID, []byte(dictionary)), zstd.WithDecoderMaxMemory(longestRecord))
	if err != nil {
		return nil, fmt.Errorf("history: zstd: %w", err)
	}
	return &codec{enc: enc, dec: dec, buf: sync.Pool{New: func() any { return new([]byte) }}}, nil
}

// pack returns what is kept of a record.
func (c *codec) pack(r *Record) ([]byte, error) {
	plain := *r
	plain.Header = nil
	j, err := json.Marshal(&plain)
	if err != nil {
		return nil, fmt.Errorf("history: %s: %w", r.ID, err)
	}
	b := binary.AppendUvarint(make([]byte, 0, len(j)+len(r.Header)+5), uint64(len(j)))
	b = append(append(b, j...), r.Header...)
	return c.enc.EncodeAll(b, nil), nil
}

var errRecord = errors.New("history: a damaged record")

// unpack is the reverse of pack.
func (c *codec) unpack(packed []byte) (r Record, err error) {
	buf := c.buf.Get().(*[]byte)
	defer c.buf.Put(buf)
	b, err := c.dec.DecodeAll(packed, (*buf)[:0])
	if err != nil {
		return r, fmt.Errorf("%w: %w", errRecord, err)
	}
	*buf = b
	n, at := binary.Uvarint(b)
	if at <= 0 || n > uint64(len(b)-at) {
		return r, errRecord
	}
	if err := json.Unmarshal(b[at:at+int(n)], &r); err != nil {
		return r, fmt.Errorf("%w: %w", errRecord, err)
	}
	if header := b[at+int(n):]; len(header) > 0 {
		r.Header = append([]byte(nil), header...)
	}
	return r, nil
}

// close gives the decoder's goroutines back.
func (c *codec) close() {
	c.dec.Close()
	_ = c.enc.Close() // it wrote to nothing
}
