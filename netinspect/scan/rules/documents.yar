// Documents that are not Office's: PDF and OneNote. Office documents have an engine of their own.

private rule Is_Pdf
{
    strings:
        $header = "%PDF-"
    condition:
        $header in (0..1024)
}

rule Pdf_Launch
{
    meta:
        description = "A PDF that starts a program or opens another file"
        category = "exploit"
        severity = 2
    strings:
        $action = /\/S\s*\/(L|#4[cC])(a|#61)(u|#75)(n|#6[eE])(c|#63)(h|#68)\b/
    condition:
        Is_Pdf and $action
}

rule Pdf_JavaScript
{
    meta:
        description = "A PDF with script in it"
        category = "embedded-object"
        severity = 3
    strings:
        $script1 = /\/S\s*\/(J|#4[aA])(a|#61)(v|#76)(a|#61)(S|#53)(c|#63)(r|#72)(i|#69)(p|#70)(t|#74)\b/
        $script2 = /\/JavaScript\s*[\[<\d\/]/
        $script3 = /\/JS\s*[(<\[\d]/
    condition:
        Is_Pdf and any of them
}

rule Pdf_Hidden_Names
{
    meta:
        description = "A PDF that spells the names of its actions with codes, as no program does"
        category = "exploit"
        severity = 2
    strings:
        $js = /\/(#4[aA]S|J#53|#4[aA]#53)\b/
        $script = /\/[JjavScript]{0,9}#(4[aA]|61|76|53|63|72|69|70|74)[JjavScript]{0,9}(#(4[aA]|61|76|53|63|72|69|70|74)[JjavScript]{0,9}){1,9}[\s\/<>(\[]/
        $open = /\/(#4[fF]|O)(#70|p)(#65|e)(#6[eE]|n)(#41|A)(#63|c)(#74|t)(#69|i)(#6[fF]|o)(#6[eE]|n)/
        $plain = "/OpenAction"
    condition:
        Is_Pdf and ($js or $script or ($open and not $plain))
}

rule Pdf_Script_Exploit
{
    meta:
        description = "A PDF whose script prepares memory or calls what was a hole in readers"
        category = "exploit"
        severity = 2
    strings:
        $spray1 = "unescape(\"%u" nocase
        $spray2 = "unescape('%u" nocase
        $call1 = "Collab.collectEmailInfo"
        $call2 = "Collab.getIcon"
        $call3 = "media.newPlayer"
        $call4 = "spell.customDictionaryOpen"
        $call5 = /util\.printf\(["']%\d{4,}/
        $call6 = "exportDataObject"
        $launch = "nLaunch"
    condition:
        Is_Pdf and (1 of ($spray*) or $call1 or $call2 or $call3 or $call4 or $call5 or ($call6 and $launch))
}

rule Pdf_Program_Attached
{
    meta:
        description = "A PDF that carries a program or script by its name"
        category = "embedded-object"
        severity = 2
    strings:
        $embedded = "/EmbeddedFile"
        $name = /\/U?F\s*\([^)\r\n]{1,200}\.(exe|scr|com|pif|cpl|msi|bat|cmd|ps1|vbs|vbe|js|jse|wsf|hta|lnk|jar|docm|xlsm|pptm|iso|img|settingcontent-ms)\)/ nocase
    condition:
        Is_Pdf and $embedded and $name
}

rule Pdf_Encrypted
{
    meta:
        description = "A PDF whose content is encrypted, with or without a password that has to be typed"
        category = "encrypted"
        severity = 3
    strings:
        $key = /\/Encrypt\s+\d{1,10}\s+\d{1,5}\s+R\b/
        $direct = /\/Encrypt\s*<<[^>]{0,200}\/Filter\s*\/Standard/
    condition:
        Is_Pdf and any of them
}

private rule Is_OneNote
{
    strings:
        $section = { E4 52 5C 7B 8C D8 A7 4D AE B1 53 78 D0 29 96 D3 }
        $package = { 43 4F 4E 46 4C 49 43 54 }
    condition:
        $section at 0 and not $package at 0
}

rule OneNote_Program
{
    meta:
        description = "A OneNote section that carries a program, script or shortcut"
        category = "malware"
        severity = 2
    strings:
        // FileDataStoreObject: GUID, length (8), unused (4), reserved (8), and the file itself.
        $file = { E7 16 E3 BD 65 26 11 45 A4 C4 8D 4D 0B 7A 9E AC }
        $script1 = "WScript.Shell" ascii wide nocase
        $script2 = "powershell" ascii wide nocase
        $script3 = "<script" ascii wide nocase
        $script4 = "<hta:application" ascii wide nocase
        $script5 = "@echo off" ascii nocase
        $name = /\.(exe|scr|bat|cmd|ps1|vbs|vbe|js|jse|wsf|hta|lnk|chm|msi|iso)\x00/ wide nocase
    condition:
        Is_OneNote and $file and (
            1 of ($script*) or $name
            or for any i in (1..#file): (
                uint16(@file[i] + 36) == 0x5A4D or uint32(@file[i] + 36) == 0x0000004C
            )
        )
}

rule OneNote_Attachment
{
    meta:
        description = "A OneNote section with a file in it"
        category = "embedded-object"
        severity = 3
    strings:
        $file = { E7 16 E3 BD 65 26 11 45 A4 C4 8D 4D 0B 7A 9E AC }
    condition:
        Is_OneNote and $file
}
