package membigquery

import "testing"

func TestTranslate(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"SELECT a FROM `p.logs.raw`":                                                           `SELECT a FROM "logs"."raw"`,
		"SELECT a FROM b WHERE c IN UNNEST(@c)":                                                `SELECT a FROM b WHERE c IN (SELECT value FROM json_each(@c))`,
		"SELECT LOGICAL_OR(a), MIN(IF(a, b, NULL)) FROM c":                                     `SELECT MAX(a), MIN(iif(a, b, NULL)) FROM c`,
		"SELECT COUNT(DISTINCT a) OVER (PARTITION BY b, c) FROM d":                             `SELECT (DENSE_RANK() OVER (PARTITION BY b, c ORDER BY a) + DENSE_RANK() OVER (PARTITION BY b, c ORDER BY a DESC) - 1) FROM d`,
		"SELECT a FROM b\nWHERE c > 1\nQUALIFY ROW_NUMBER() OVER (ORDER BY d) = 1\nORDER BY a": "SELECT a FROM (SELECT *, (ROW_NUMBER() OVER (ORDER BY d) = 1) AS qualified\nFROM b\nWHERE c > 1\n) WHERE qualified\nORDER BY a",
		"SELECT a FROM (\nSELECT a FROM b\nQUALIFY c = 1)\nQUALIFY d = 1":                      "SELECT a FROM (SELECT *, (d = 1) AS qualified\nFROM (SELECT a FROM (SELECT *, (c = 1) AS qualified\nFROM b\n) WHERE qualified\n)\n) WHERE qualified\n",
	} {
		if got, err := translate(query); err != nil || got != want {
			t.Errorf("%s\n%v is\n%s\nwant\n%s", query, err, got, want)
		}
	}
	for _, query := range []string{"SELECT (a FROM b", "QUALIFY a FROM b", "SELECT a QUALIFY b FROM c"} {
		if got, err := translate(query); err == nil {
			t.Errorf("%s is %s, want an error", query, got)
		}
	}
}

func TestShuffled(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"SELECT a FROM b":                              "SELECT a FROM b ORDER BY RANDOM()\n",
		"SELECT a FROM b\nLIMIT 1":                     "SELECT a FROM b ORDER BY RANDOM()\nLIMIT 1",
		"SELECT a FROM b\nORDER BY c\nLIMIT 1":         "SELECT a FROM b\nORDER BY c, RANDOM()\nLIMIT 1",
		"SELECT a FROM (SELECT a FROM b ORDER BY a)\n": "SELECT a FROM (SELECT a FROM b ORDER BY a) ORDER BY RANDOM()\n",
	} {
		if got := shuffled(query); got != want {
			t.Errorf("%q is %q, want %q", query, got, want)
		}
	}
}
