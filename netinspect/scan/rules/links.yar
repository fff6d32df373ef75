// Files that are only a way to something else: shortcuts, connections, queries.

private rule Is_Shortcut
{
    strings:
        $header = { 4C 00 00 00 01 14 02 00 00 00 00 00 C0 00 00 00 00 00 00 46 }
    condition:
        $header at 0
}

rule Shortcut_Shell
{
    meta:
        description = "A shortcut that starts an interpreter"
        category = "malware"
        severity = 2
    strings:
        $a = "powershell" ascii wide nocase
        $b = "pwsh" ascii wide nocase
        $c = "cmd.exe" ascii wide nocase
        $d = "mshta" ascii wide nocase
        $e = "wscript" ascii wide nocase
        $f = "cscript" ascii wide nocase
        $g = "rundll32" ascii wide nocase
        $h = "regsvr32" ascii wide nocase
        $i = "certutil" ascii wide nocase
        $j = "bitsadmin" ascii wide nocase
        $k = "msiexec" ascii wide nocase
        $l = "forfiles" ascii wide nocase
        $m = "conhost" ascii wide nocase
        $n = "%comspec%" ascii wide nocase
        $o = "wmic" ascii wide nocase
    condition:
        Is_Shortcut and any of them
}

rule Shortcut_Payload
{
    meta:
        description = "A shortcut with something behind it"
        category = "malware"
        severity = 2
    condition:
        Is_Shortcut and filesize > 64KB
}

rule Shortcut_Remote
{
    meta:
        description = "A shortcut to another machine"
        category = "malware"
        severity = 2
    strings:
        $a = "http://" ascii wide nocase
        $b = "https://" ascii wide nocase
        $c = "DavWWWRoot" ascii wide nocase
        $d = "@SSL" ascii wide nocase
    condition:
        Is_Shortcut and any of them
}

rule Internet_Shortcut_Program
{
    meta:
        description = "An internet shortcut that opens a file elsewhere or a program"
        category = "exploit"
        severity = 2
    strings:
        $section = "[InternetShortcut]" ascii nocase
        $file = /\nURL=[ \t]*"?(file:|\\\\|smb:|mhtml:|ms-|search-ms|javascript:|vbscript:)/ ascii nocase
        $program = /\nURL=[^\r\n]{1,500}\.(exe|scr|lnk|hta|js|jse|vbs|vbe|wsf|cpl|msi|bat|cmd|ps1|jar|zip\\)[ \t"]*[\r\n]/ ascii nocase
    condition:
        filesize < 64KB and $section in (0..512) and ($file or $program)
}

rule Remote_Library
{
    meta:
        description = "A Windows library or search that shows another machine's folder"
        category = "exploit"
        severity = 2
    strings:
        $library = "<libraryDescription" ascii wide nocase
        $search = "<persistedQuery" ascii wide nocase
        $place = /<(url|include path=)[^<]{0,20}(https?:|\\\\)/ ascii wide nocase
        $protocol = /search(-ms)?:query=[^"'<>]{0,300}location:(%5c|\\){2}/ ascii nocase
    condition:
        filesize < 256KB and ((($library or $search) and $place) or $protocol)
}

rule Remote_Desktop_Settings
{
    meta:
        description = "A remote desktop connection that gives away the drives of this machine"
        category = "banned-type"
        severity = 2
    strings:
        $address = "full address:s:" ascii wide nocase
        $drives = "drivestoredirect:s:" ascii wide nocase
        $program = "remoteapplicationprogram:s:" ascii wide nocase
    condition:
        filesize < 64KB and $address in (0..16384) and ($drives or $program)
}

rule Web_Query
{
    meta:
        description = "A web query: Excel fetches its content when it is opened"
        category = "external-template"
        severity = 2
    strings:
        $query = /WEB\r?\n1\r?\n[ \t]*(https?|ftp|file|\\\\)/ ascii nocase
    condition:
        filesize < 64KB and $query at 0
}

rule Csv_Formula
{
    meta:
        description = "A table in text with a formula that starts a program by DDE"
        category = "dde"
        severity = 2
    strings:
        $link = /(^|[\n,;\t"])[ \t'"]{0,8}[=+\-@][^\r\n|]{0,60}\b(cmd|powershell|mshta|msexcel|rundll32|regsvr32|wscript|cscript|certutil|excel)(\.exe)?'?\|['"][^\r\n!]{1,400}['"]![A-Z]/ ascii nocase
    condition:
        filesize < 16MB and $link
}
